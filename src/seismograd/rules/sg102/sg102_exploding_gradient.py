"""SG102 exploding-gradient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from seismograd.analysis.block_rows import iteration_at, numbers
from seismograd.analysis.depth_profile import LayerReader
from seismograd.analysis.norm_growth import UNBOUNDED, GrowthBaseline, NormSeries
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.sampled_splits import SampledSplits
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.through_time import ThroughTime
from seismograd.analysis.time_samples import measurements_of
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg102.exploding_depth import depths_of, towards_the_input
from seismograd.rules.sg102.exploding_start import from_the_start
from seismograd.rules.sg102.exploding_time import exploding_time_finding
from seismograd.rules.sg102.explosion import ExplosionTrack, OptimizerRows, explosion_finding
from seismograd.rules.sg102.explosion_split import with_split
from seismograd.rules.sg102.exponential import explained, of_an_exponential
from seismograd.rules.sg102.growing_norm import from_step_to_step
from seismograd.schema import Fact, FactKind, Finding, SampleBatch, SampleKind


@final
@dataclass
class ExplodingGradient(Rule):
    """The gradient grows without limit: towards the input, from step to step, or from the first
    step on.

    What it finds
        Training runs that are about to diverge, or have no chance, while all numbers are finite.

    Why it hurts
        A single update with such a gradient moves the weights far away from any useful values. The
        next gradient is even larger, and after a few steps the loss is infinite or NaN.

    How it decides
        The rule looks for three kinds of growth. Towards the input: a robust line through the
        logarithms of the layers' gradient norms (R² at least {min_goodness:g}) shows that each
        layer multiplies the gradient by at least {min_gain:g} and all layers together by at least
        {min_total_gain:g}, in {min_steps} of {window} steps. In the first {first_steps} steps the
        rule also checks the biases on their own, because their gradient is the backpropagated
        signal itself: here a factor of {min_signal_gain:g} per layer and {min_total_signal_gain:g}
        in total is enough. Weights that only add to frozen ones, as LoRA's factors, are no layers.
        From step to step: the norm over all parameters is at least {min_growth:g} times its
        baseline for {high_steps} steps in a row. The baseline is the larger of two medians, that of
        the {baseline_steps} steps before and that of the first {first_steps}. Or the norm has risen
        by the same factor along a line (R² at least {min_rising_goodness:g}) over the last
        {rising_steps} steps, or since the start, but over no fewer than {min_rising_steps}. The
        loss must not be lower than before, and if the norm has risen along a line, the loss must
        have doubled, unless it falls without a limit: below zero, by {unbounded:g} times the first
        losses. From the start: within the first {first_steps} steps the norm is at least
        {min_norm:g}, and the learning rate times the part of it that is applied is at least
        {min_update:g} times the norm of the weights; this needs plain SGD and the sampled weight
        norms. Or the very first loss of a classifier, a mean cross entropy, is {min_first_loss:g}
        times that of a random guess.

        Where the signals of the modules were sampled, cause and advice come from them: they tell
        what of a layer's factor is the activation's and what the weights'.

        Over time: where a recurrence is unrolled, the gradient that reaches each of its steps is
        measured at a few backwards. It explodes when it is {max_time_gain:g} times as large at the
        beginning of the sequence in {min_looks} of them in a row, along a line as above, and the
        loss ends no lower than {stuck_loss:.0%} of the first, or of that of a random guess. Of
        recurrent modules of torch the signals are read as well that were sampled, in {min_samples}
        samples in a row.

        Where one of the first very large losses holds an exponential whose result explains it, that
        is the cause; a result of {min_exponential:g} is enough by itself.

    False alarms
        Very deep networks with batch normalisation and without residual connections explode towards
        the input, although Adam may still train them. Size alone never counts, nor does one step.

    What to try
        - Initialise for the activation: `nn.init.kaiming_normal_` for ReLU,
          `nn.init.xavier_normal_` for tanh, instead of N(0, 1).
        - Lower the learning rate, and increase it gradually over the first steps (warm-up).
        - Clip: call `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` between `backward`
          and `step`; recurrent networks need it.

    References
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
        - He, Zhang, Ren, Sun (2015), Delving deep into rectifiers.
    """

    code = "SG102"
    name = "exploding-gradient"
    severity = "error"
    early = True
    needs = ("grad_norm",)
    absorbs = ("SG103", "SG104", "SG114", "SG201", "SG202", "SG203")
    reads_samples = (SampleKind.MODULE_SIGNALS,)

    min_gain: float = 1.1  # per layer, of weights and biases together
    min_total_gain: float = 1e4  # over all layers
    min_signal_gain: float = 2.0  # per layer, of the biases
    min_total_signal_gain: float = 1e3  # over all layers
    min_goodness: float = 0.8  # R²
    min_layers: int = 4
    min_steps: int = 5
    window: int = 10  # steps
    first_steps: int = 10
    min_growth: float = 1e3  # of the norm against its baseline
    unbounded: float = UNBOUNDED  # of a loss below 0, against the first ones
    high_steps: int = 3  # in a row
    baseline_steps: int = 32
    rising_steps: int = 64
    min_rising_steps: int = 8
    min_rising_goodness: float = 0.9  # R²
    min_norm: float = 1e6
    min_update: float = 1.0  # learning rate x gradient norm, against the norm of the weights
    min_first_loss: float = 100.0  # of the loss of a uniform guess
    min_exponential: float = 1e8
    max_time_gain: float = 1e4  # of the gradient at the beginning of a sequence
    min_looks: int = 3  # in a row
    min_samples: int = 2  # in a row, of the steps of a recurrent module
    stuck_loss: float = 0.95  # of the first
    min_finite_steps: int = 5

    _layers: LayerReader = memory(LayerReader)
    _tracks: dict[int, ExplosionTrack] = memory(dict[int, ExplosionTrack])
    _exponentials: list[Fact] = memory(list[Fact])
    _time: ThroughTime = memory(ThroughTime)
    _splits: SampledSplits = memory(SampledSplits)
    _sampled_time: ThroughTime = memory(ThroughTime)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._time.learn(fact, self._explodes_over_time)
        if fact.kind == FactKind.LARGE_EXPONENTIAL:
            self._exponentials.append(fact)
        return ()

    def read_with(self, readers: SharedReaders) -> None:
        self._layers = readers.layers

    def sampled(self, batch: SampleBatch) -> Iterable[Finding]:
        self._splits.add(batch)
        for fact in measurements_of(batch):
            self._sampled_time.learn(fact, self._explodes_over_time)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._time.read(block)
        self._sampled_time.loss, self._sampled_time.guess = self._time.loss, self._time.guess
        against = GrowthBaseline(
            self.baseline_steps,
            self.first_steps,
            self.high_steps,
            self.rising_steps,
            self.min_rising_steps,
            self.min_rising_goodness,
            unbounded=self.unbounded,
        )
        depths = depths_of(self, block.read_by(self._layers), self._needs_signal(block))
        norms = numbers(block.steps, "grad_norm")
        for optimizer, rows in block.updated:
            track = self._tracks.setdefault(
                optimizer, ExplosionTrack(RecentHits(self.window), NormSeries(against))
            )
            look = OptimizerRows(self, block, optimizer, rows, norms[rows], depths)
            self._follow(track, look)
        self._explain()
        if len(block):
            self._splits.forget(iteration_at(block, len(block) - 1))
        return self.found.take()

    def _explain(self) -> None:
        """Say what each layer does to the signal, where a sample shows it by now."""
        for optimizer, track in self._tracks.items():
            found = self.found.get(optimizer)
            if found is not None and track.explosion is not None:
                completed = with_split(found, track, self._splits, self)
                if completed != found:
                    self.found.add(completed)

    def _needs_signal(self, block: SharedBlock) -> bool:
        """Return whether the biases are still inspected: in the first steps of an optimizer, and
        where they showed it then.
        """
        tracks = [self._tracks.get(optimizer) for optimizer in block.optimizers_of_rows]
        return any(
            track is None or track.num_rows < self.first_steps or track.goes_on_by_depth
            for track in tracks
        )

    def finish(self) -> Iterable[Finding]:
        limits = self.first_steps, self.stuck_loss
        for shown in (
            *self._time.at_fault(self.min_looks, *limits),
            *self._sampled_time.at_fault(self.min_samples, *limits),
        ):
            if shown[-1].optimizer not in self.found:
                self.found.add(exploding_time_finding(self, shown, self.max_time_gain))
        return self.found.take()

    def _explodes_over_time(self, fact: Fact) -> bool:
        return (
            fact.number("total") >= self.max_time_gain
            and fact.number("goodness") >= self.min_goodness
        )

    def shortfall(self) -> Message | None:
        template = mark("needs {needed} steps with finite gradients, has {has}")
        steps = sum(track.series.count for track in self._tracks.values())
        return too_few(template, steps, self.min_finite_steps)

    def _follow(self, track: ExplosionTrack, look: OptimizerRows) -> None:
        """Read the rows of one optimizer."""
        ways = [
            from_the_start(track, look),
            towards_the_input(track, look),
            from_step_to_step(track, look),
            *(of_an_exponential(look, fact) for fact in self._exponentials),
        ]
        if not track.is_found:
            shown = [way for way in ways if way is not None]
            if not shown:
                return
            found = min(shown, key=lambda way: way.position)
            step = look.steps[found.position]
            reasons = [each for each in self._exponentials if each.iteration <= step]
            if reasons and not found.where and not found.own_cause:
                found = explained(found, reasons[0], self)
            track.is_found, track.limit = True, found.limit
            track.explosion, track.found_at = found, int(step)
            self.found.add(explosion_finding(self, look, found))
        goes_on = look.shown_by_depth() if track.limit is None else look.norm >= track.limit
        if goes_on.any():
            self.found.extend(int(look.steps[goes_on][-1]), look.optimizer)
