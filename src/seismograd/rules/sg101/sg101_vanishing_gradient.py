"""SG101 vanishing-gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import by_optimizer, integers, iteration_at
from seismograd.analysis.depth_profile import LayerReader
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.sampled_splits import SampledSplits
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.through_time import ThroughTime
from seismograd.analysis.time_samples import measurements_of
from seismograd.diagnosis.rule import Rule, memory, per_optimizer, too_few
from seismograd.i18n import Message, mark, say
from seismograd.rules.sg101.insensitive_outputs import InsensitiveOutputs, insensitivity_finding
from seismograd.rules.sg101.vanished_step import (
    ProfiledRows,
    VanishingTrack,
    chain_of,
)
from seismograd.rules.sg101.vanishing_time import vanishing_time_finding
from seismograd.rules.sg101.vanishing_words import vanishing_finding
from seismograd.schema import Fact, Finding, SampleBatch, SampleKind


@final
@dataclass
class VanishingGradient(Rule):
    """The gradient vanishes on its way back to the input.

    What it finds
        Networks whose first layers hardly learn, because the gradient shrinks at every layer on its
        way back. The norm over all layers looks normal: it comes from the last layer.

    Why it hurts
        Backpropagation multiplies: ten layers with a factor of one fifth leave a ten-millionth. The
        first layers stay close to their initialisation, and the later ones learn from what are in
        effect random features, or learn nothing at all.

    How it decides
        At each step the rule takes the gradient norm of every layer (weights with two or more
        dimensions, each with its bias, in the order of execution, without embeddings and what only
        adds to frozen weights, as LoRA's factors; parallel networks, such as an actor and a critic,
        are judged separately) and fits a robust line to the logarithms. A step counts when the line
        fits (R² at least {min_goodness:g}), each layer multiplies the gradient by less than
        {max_gain:g}, and less than {max_total_gain:g} of the gradient is left at the first layer. A
        step also counts when the gradient of the first layers is exactly zero and the line through
        the others falls below {max_visible_gain:g} before that. A network may start like this and
        recover: if each layer multiplies the gradient by less than {steep_gain:g}, as sigmoid does,
        {min_steps} of {window} steps are needed; if the factor is larger, {min_slow_steps} of
        {slow_window}. A run with fewer than {window} steps needs {min_steps_at_end} steps of the
        first kind, and they must be at least half of all steps. When layers have equal weights and
        no biases, all of them get a gradient of the same size, however small. The rule therefore
        checks the first step as well: if changing any weight by its own size would change the loss
        of a classifier by at most {max_leverage:g} of its value, and the loss of the first
        {flat_steps:g} steps stays within {guess_distance:.0%} of the loss of a random guess, no
        gradient gets through at all. The finding is an error when the gradient of some layers is
        exactly zero, otherwise a warning, and only information when fewer than
        {recovered_share:.0%} of the last {window} steps show it.

        Where the signals of the modules were sampled, cause and advice come from them: they tell
        what of a layer's factor is the activation's and what the weights'.

        Over time: where a recurrence is unrolled, the gradient that reaches each of its steps is
        measured at a few backwards. It vanishes when less than {max_time_gain:g} of it is left at
        the beginning of the sequence in {min_looks} of them in a row, along a line as above, and
        after {min_time_steps} steps the loss is still {stuck_loss:.0%} of the first, or of that of
        a random guess. Of `nn.RNN`, `nn.LSTM` and `nn.GRU`, whose steps may run as one operation,
        and of cells the signals are read that were sampled, in {min_samples} samples in a row.

    False alarms
        A very deep plain network that a slow optimizer does get to train after many steps. Only
        ratios between layers count, so a small loss or loss scale does not trigger this rule; nor
        do frozen layers, idle experts, or branches that start at zero. The steps of `nn.LSTM` and
        its kin are visible only in sampled steps where they run as one operation, as on the GPU.

    What to try
        - Replace sigmoid or tanh between the layers with ReLU, GELU or SiLU, and use a matching
          initialisation (`nn.init.kaiming_normal_`).
        - Add a normalisation layer (`nn.LayerNorm`, `nn.BatchNorm1d`) after each layer.
        - Add residual connections, `x = x + block(x)`, so that the gradient can bypass each block.
        - A larger learning rate does not fix it: the last layers diverge before the first move.

    References
        - Bengio, Simard, Frasconi (1994), Learning long-term dependencies with gradient descent is
          difficult.
        - He, Zhang, Ren, Sun (2015), Delving deep into rectifiers.
    """

    code = "SG101"
    name = "vanishing-gradient"
    severity = "warning"
    needs = ("grad_norm",)
    absorbs = ("SG105", "SG106", "SG108")
    reads_samples = (SampleKind.MODULE_SIGNALS,)

    max_total_gain: float = 2e-4  # of the gradient at the last layer that is left at the first
    max_visible_gain: float = 1e-3  # the same, up to the last layer that is not exactly zero
    max_gain: float = 0.8  # per layer
    # per layer; sigmoid with PyTorch's initialisation: 0.14, GELU: 0.30, ReLU: 0.43
    steep_gain: float = 0.25
    min_goodness: float = 0.8  # R²
    min_layers: int = 4
    min_steps: int = 10
    window: int = 20  # steps
    min_slow_steps: int = 40
    slow_window: int = 60  # steps
    min_steps_at_end: int = 5
    recovered_share: float = 0.25  # of the last steps
    flat_steps: int = 10
    max_leverage: float = 1e-4
    guess_distance: float = 0.05  # of the loss of a uniform guess
    max_time_gain: float = 1e-6  # of the gradient that is left at the beginning of a sequence
    min_looks: int = 4  # in a row
    min_samples: int = 2  # in a row, of the steps of a recurrent module
    min_time_steps: int = 60
    stuck_loss: float = 0.95  # of the first

    _layers: LayerReader = memory(LayerReader)
    _most_layers: int = memory(int)
    _tracks: dict[int, VanishingTrack] = memory(dict[int, VanishingTrack])
    _starts: dict[int, InsensitiveOutputs] = per_optimizer(InsensitiveOutputs)
    _time: ThroughTime = memory(ThroughTime)
    _splits: SampledSplits = memory(SampledSplits)
    _sampled_time: ThroughTime = memory(ThroughTime)

    def read_with(self, readers: SharedReaders) -> None:
        self._layers = readers.layers

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._time.learn(fact, self._vanishes_over_time)
        return ()

    def sampled(self, batch: SampleBatch) -> Iterable[Finding]:
        self._splits.add(batch)
        for fact in measurements_of(batch):
            self._sampled_time.learn(fact, self._vanishes_over_time)
        return ()

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        self._time.read(block)
        self._sampled_time.loss, self._sampled_time.guess = self._time.loss, self._time.guess
        yield from self._look_at_start(block)
        yield from self._look_at_depth(block)
        for track in self._tracks.values():
            track.look(self._splits, self)
        if len(block):
            self._splits.forget(iteration_at(block, len(block) - 1))

    def _look_at_depth(self, block: SharedBlock) -> Iterator[Finding]:
        """Look for a gradient that vanishes from layer to layer."""
        layered = block.read_by(self._layers)
        self._most_layers = max(self._most_layers, len(layered[0].layers))
        chains = [chain_of(each, self) for each in layered if len(each.layers) >= self.min_layers]
        if not chains:
            return
        evaluated = np.logical_or.reduce([chain.profile.evaluated for chain in chains])
        for optimizer, rows in by_optimizer(block, evaluated & block.updates):
            track = self._tracks.setdefault(
                optimizer, VanishingTrack(RecentHits(self.window), RecentHits(self.slow_window))
            )
            looked = ProfiledRows(rows, integers(block.steps, "iteration")[rows], chains, block)
            if track.follow(looked, self) and not self._is_flat(optimizer):
                track.look(self._splits, self)
                yield vanishing_finding(self, self, track, optimizer)

    def finish(self) -> Iterator[Finding]:
        found = {each for each, track in self._tracks.items() if track.first is not None}
        for optimizer, track in self._tracks.items():
            hits, num = track.steep.num_hits(self.window), track.steep.count
            is_shown = hits >= max(self.min_steps_at_end, num / 2) and num < self.window
            if optimizer not in found and is_shown and not self._is_flat(optimizer):
                track.first = int(track.steep.steps[0])
                track.look(self._splits, self)
                found.add(optimizer)
                yield vanishing_finding(self, self, track, optimizer)
        # Over time, where the layers show nothing.
        limits = self.min_time_steps, self.stuck_loss
        for shown in (
            *self._time.at_fault(self.min_looks, *limits),
            *self._sampled_time.at_fault(self.min_samples, *limits),
        ):
            optimizer = shown[-1].optimizer
            if optimizer not in found and not self._is_flat(optimizer):
                found.add(optimizer)
                yield vanishing_time_finding(self, shown, self._time.loss, self.max_time_gain)

    def _vanishes_over_time(self, fact: Fact) -> bool:
        return (
            fact.number("total") <= self.max_time_gain
            and fact.number("goodness") >= self.min_goodness
        )

    def shortfall(self) -> Message | None:
        layers, steps = self._most_layers, sum(each.slow.count for each in self._tracks.values())
        if self._time.num or self._sampled_time.num >= self.min_samples:
            return None
        if layers < self.min_layers and self._time.module:
            return say(
                "needs {needed} layers, has {has}; the steps of {module} run as one operation and "
                "cannot be seen",
                needed=self.min_layers,
                has=layers,
                module=self._time.module,
            )
        if layers < self.min_layers or steps >= self.min_steps_at_end:
            return too_few(mark("needs {needed} layers, has {has}"), layers, self.min_layers)
        return say(
            "needs {needed} steps with finite gradients in {layers} layers, has {has}",
            needed=self.min_steps_at_end,
            layers=self.min_layers,
            has=steps,
        )

    def _look_at_start(self, block: SharedBlock) -> Iterator[Finding]:
        """Inspect the first steps of each optimizer."""
        for optimizer, rows in block.updated:
            start = self._starts[optimizer]
            row = start.read(block, rows, self.flat_steps)
            if row is not None and start.judge(block, self.max_leverage, self.guess_distance):
                yield insensitivity_finding(self, self, start, block, row, optimizer, self._splits)

    def _is_flat(self, optimizer: int) -> bool:
        return self._starts[optimizer].is_insensitive
