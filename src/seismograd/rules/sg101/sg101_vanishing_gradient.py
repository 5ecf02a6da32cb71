"""SG101 vanishing-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, by_optimizer, integers
from seismograd.analysis.chance_level import chance_loss
from seismograd.analysis.depth_profile import (
    DepthProfiles,
    LayeredBlock,
    LayerReader,
    profiles,
)
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.through_time import ThroughTime
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg101.insensitive_outputs import InsensitiveOutputs, insensitivity_finding
from seismograd.rules.sg101.vanished_step import (
    Chain,
    ProfiledRows,
    VanishingTrack,
    vanishing_finding,
    witness_of,
)
from seismograd.rules.sg101.vanishing_time import vanishing_time_finding
from seismograd.schema import Fact, Finding


@final
@dataclass
class VanishingGradient(Rule):
    """The gradient vanishes on its way back to the input.

    What it finds
        Networks whose first layers hardly learn, because the gradient shrinks at every layer on its
        way back. The norm over all layers can look quite normal, since it comes almost entirely
        from the last layer.

    Why it hurts
        Backpropagation multiplies: the gradient at the first layer is a product of one factor for
        each later layer. Ten layers with a factor of one fifth leave a ten-millionth. The first
        layers then stay close to their initialisation, and the later layers learn from what are in
        effect random features, or learn nothing at all.

    How it decides
        At each step the rule takes the gradient norm of every layer (weights with two or more
        dimensions, each with its bias, in the order of execution, without embeddings; parallel
        networks, such as an actor and a critic, are judged separately) and fits a robust line to
        the logarithms. A step counts when the line fits (R² at least {min_goodness:g}), each layer
        multiplies the gradient by less than {max_gain:g}, and less than {max_total_gain:g} of the
        gradient is left at the first layer. A step also counts when the gradient of the first
        layers is exactly zero and the line through the others falls below {max_visible_gain:g}
        before that. One step says little, since a network may start like this and recover. If each
        layer multiplies the gradient by less than {steep_gain:g}, as sigmoid does, {min_steps} of
        {window} steps are needed; if the factor is larger, {min_slow_steps} of {slow_window}. A run
        with fewer than {window} steps needs {min_steps_at_end} steps of the first kind, and they
        must be at least half of all steps. When layers have equal weights and no biases, all of
        them get a gradient of the same size, however small. The rule therefore checks the first
        step as well: if changing any weight by its own size would change the loss of a classifier
        by at most {max_leverage:g} of its value, and the loss of the first {flat_steps:g} steps
        stays within {guess_distance:.0%} of the loss of a random guess, no gradient gets through at
        all. The finding is an error when the gradient of some layers is exactly zero, otherwise a
        warning, and only information when fewer than {recovered_share:.0%} of the last {window}
        steps show it.

        Over time: where a recurrence is unrolled, the gradient that reaches each of its steps is
        measured at a few backwards. It vanishes when less than {max_time_gain:g} of it is left at
        the beginning of the sequence in {min_looks} of them in a row, along a line as above, and
        after {min_time_steps} steps the loss is still {stuck_loss:.0%} of the first.

    False alarms
        A very deep plain network that a slow optimizer does get to train after many steps. Only
        ratios between layers count, so small gradients at the end of training, a small loss or a
        small loss scale do not trigger this rule; nor do layers without a gradient (frozen,
        detached), idle experts, or branches that start at zero. The steps of `nn.LSTM` and its kin
        are not visible where they run as one operation, as on the GPU.

    What to try
        - Replace sigmoid or tanh between the layers with ReLU, GELU or SiLU, and use a matching
          initialisation (`nn.init.kaiming_normal_`).
        - Add a normalisation layer (`nn.LayerNorm`, `nn.BatchNorm1d`) after each layer.
        - Add residual connections, `x = x + block(x)`, so that the gradient can bypass each block.
        - A larger learning rate does not fix it: it affects the last layers first, and they diverge
          before the first layers move.

    References
        - Hochreiter (1991), Untersuchungen zu dynamischen neuronalen Netzen; Bengio, Simard,
          Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
        - Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural
          networks.
        - He, Zhang, Ren, Sun (2015), Delving deep into rectifiers.
    """

    code = "SG101"
    name = "vanishing-gradient"
    severity = "warning"
    needs = ("grad_norm",)
    absorbs = ("SG105", "SG106", "SG108")

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
    min_time_steps: int = 60
    stuck_loss: float = 0.95  # of the first

    _layers: LayerReader = field(default_factory=LayerReader, init=False, repr=False)
    _most_layers: int = field(default=0, init=False, repr=False)
    _tracks: dict[int, VanishingTrack] = field(
        default_factory=dict[int, VanishingTrack], init=False, repr=False
    )
    _flats: dict[int, InsensitiveOutputs] = field(
        default_factory=dict[int, InsensitiveOutputs], init=False, repr=False
    )

    _time: ThroughTime = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._time = ThroughTime(self._vanishes_over_time)

    def read_with(self, readers: SharedReaders) -> None:
        self._layers = readers.layers

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._time.learn(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        self._time.read(block)
        yield from self._begin(block)
        layered = block.read_by(self._layers)
        self._most_layers = max(self._most_layers, len(layered[0].layers))
        chains = [self._chain(each) for each in layered if len(each.layers) >= self.min_layers]
        if not chains:
            return
        evaluated = np.logical_or.reduce([chain.profile.evaluated for chain in chains])
        for optimizer, rows in by_optimizer(block, evaluated & block.updates):
            track = self._tracks.setdefault(
                optimizer, VanishingTrack(RecentHits(self.window), RecentHits(self.slow_window))
            )
            looked = ProfiledRows(rows, integers(block.steps, "iteration")[rows], chains, block)
            if self._follow(track, looked) and not self._is_flat(optimizer):
                yield vanishing_finding(self, self, track, optimizer)

    def finish(self) -> Iterator[Finding]:
        for optimizer, track in self._tracks.items():
            if (
                track.first is None
                and not self._is_flat(optimizer)
                and track.steep.count < self.window
            ):
                hits = track.steep.num_hits(self.window)
                if hits >= self.min_steps_at_end and 2 * hits >= track.steep.count:
                    track.first = int(track.steep.steps[0])
                    yield vanishing_finding(self, self, track, optimizer)
        yield from self._over_time()

    def _vanishes_over_time(self, fact: Fact) -> bool:
        return (
            fact.number("total") <= self.max_time_gain
            and fact.number("goodness") >= self.min_goodness
        )

    def _over_time(self) -> Iterator[Finding]:
        """Judge recurrent weights, where the layers show nothing."""
        found = {each for each, track in self._tracks.items() if track.first is not None}
        for shown in self._time.at_fault(self.min_looks, self.min_time_steps, self.stuck_loss):
            optimizer = shown[-1].optimizer
            if optimizer not in found and not self._is_flat(optimizer):
                found.add(optimizer)
                yield vanishing_time_finding(self, shown, self._time.loss, self.max_time_gain)

    def shortfall(self) -> Message | None:
        steps = sum(track.slow.count for track in self._tracks.values())
        if self._time.num:
            return None
        if self._most_layers < self.min_layers and self._time.module:
            return say(
                "needs {needed} layers, has {has}; the steps of {module} run as one operation and "
                "cannot be seen",
                needed=self.min_layers,
                has=self._most_layers,
                module=self._time.module,
            )
        if self._most_layers < self.min_layers:
            return say(
                "needs {needed} layers, has {has}", needed=self.min_layers, has=self._most_layers
            )
        if steps < self.min_steps_at_end:
            return say(
                "needs {needed} steps with finite gradients in {layers} layers, has {has}",
                needed=self.min_steps_at_end,
                layers=self.min_layers,
                has=steps,
            )
        return None

    def _begin(self, block: SharedBlock) -> Iterator[Finding]:
        """Inspect the first steps of each optimizer."""
        for optimizer, rows in block.updated:
            flat = self._flats.setdefault(optimizer, InsensitiveOutputs())
            for row in as_list(rows[: max(self.flat_steps - flat.num, 0)]):
                flat.add(block, row)
                if flat.num == self.flat_steps:
                    if not (
                        flat.leverage <= self.max_leverage
                        and flat.is_guess(chance_loss(block.parameters), self.guess_distance)
                    ):
                        flat.leverage = math.nan
                    else:
                        yield insensitivity_finding(
                            self, flat, self.max_leverage, block, row, optimizer
                        )

    def _is_flat(self, optimizer: int) -> bool:
        flat = self._flats.get(optimizer, InsensitiveOutputs())
        return flat.num >= self.flat_steps and flat.leverage <= self.max_leverage

    def _chain(self, layered: LayeredBlock) -> Chain:
        norm = layered.norms
        profile = profiles(
            norm.combined,
            self.min_layers,
            decays=True,
            min_range=-math.log10(self.max_visible_gain),
        )
        shown = self._shown(profile)
        return Chain(
            norm, profile, layered.layers, shown, shown & (profile.gain <= self.steep_gain)
        )

    def _shown(self, profile: DepthProfiles) -> BoolArray:
        """Return where the gradient vanishes  # (B,)."""
        gone = (profile.total_gain <= self.max_total_gain) | (
            (profile.leading_zeros > 0) & (profile.total_gain <= self.max_visible_gain)
        )
        return gone & (profile.goodness >= self.min_goodness) & (profile.gain <= self.max_gain)

    def _follow(self, track: VanishingTrack, looked: ProfiledRows) -> bool:
        """Read the rows of one optimizer; return whether its finding has changed."""
        was_recovered = track.recovered
        shown = np.logical_or.reduce([chain.shown for chain in looked.chains])[looked.rows]
        steep = np.logical_or.reduce([chain.steep for chain in looked.chains])[looked.rows]
        reached = [
            track.steep.add(steep, looked.steps, self.min_steps),
            track.slow.add(shown, looked.steps, self.min_slow_steps),
        ]
        hits = np.flatnonzero(shown)
        if track.first is None:
            found = min((each for each in reached if each is not None), default=None)
            if found is not None:
                index, track.first = found
                track.witness = witness_of(
                    looked, int(hits[hits <= index][-1]), self.max_total_gain
                )
            elif len(hits):
                track.witness = witness_of(looked, int(hits[-1]), self.max_total_gain)
        if len(hits):
            track.last = int(looked.steps[hits[-1]])
        track.recovered = track.first is not None and track.slow.num_hits(
            self.window
        ) < self.recovered_share * min(track.slow.count, self.window)
        return track.first is not None and bool(len(hits) or track.recovered != was_recovered)
