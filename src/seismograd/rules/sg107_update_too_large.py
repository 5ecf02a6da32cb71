"""SG107 update-too-large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import statistic, weight_norms
from seismograd.analysis.chance_level import plain_loss
from seismograd.analysis.depth_profile import LayeredBlock, chains_of
from seismograd.analysis.medians import column_medians, median
from seismograd.analysis.parameter_index import is_weight
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.step_group_collector import StepGroupCollector
from seismograd.analysis.step_groups import StepGroup
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg102.explosion import depths_of
from seismograd.rules.sg102.sg102_exploding_gradient import ExplodingGradient
from seismograd.schema import Evidence, Finding, FloatArray, RowBatch, State, StepFlag

PLAIN = ("SGD",)  # whose first update is the learning rate times the gradient
# whose first update is the learning rate in every scalar that has a gradient
BY_SIGN = ("Adam", "AdamW", "Adamax", "Lion")


@final
@dataclass
class UpdateTooLarge(Rule):
    """The learning rate is too high: updates throw the weights away instead of improving them.

    What it finds
        Training runs whose weights are replaced within a few steps, and whose loss is worse for it
        than it was before the first step.

    Why it hurts
        A gradient tells the way for a small distance. A weight that moves by a tenth of its own
        size in each step is a new random weight after ten. The loss is thrown up, ReLU units die,
        sigmoid and tanh saturate, and what is broken in the first steps seldom heals, even when the
        loss seems to settle: it settles at what one gets by guessing.

    How it decides
        For each weight of two or more dimensions it takes the norm of the update over the norm of
        the weight. About a thousandth is usual; the median over the weights is taken in groups of
        ten steps, and for the first step as the learning rate gives it. It is held against the loss
        of the first step, which was computed with the weights as they were initialised. Thrown up:
        the ratio is at least {min_ratio:g} and the loss of the group at least {thrown_up:g} times
        the first; or the ratio is at least {high_ratio:g} and the loss {raised:g} times the first,
        at its highest {peak:g} times. Stuck: the ratio was at least {high_ratio:g} in a group, or
        {lasting_ratio:g} in each of {lasting:g} groups in a row, and the loss of {stuck_groups:g}
        groups in a row, the first of all left out, is still at least {stuck_share:g} of the first,
        or more where losses scatter by more than {usual_noise:.0%}. Where already the first update
        was {wrecking_ratio:g} times the weight, a loss of {wrecked_share:g} of the first will do.
        Ratios count only while the gradient norm is below {max_growth:g} times the first: where a
        gradient explodes after the loss has fallen, and where it grows from layer to layer at the
        start, that is the cause (gradient-spike, exploding-gradient). A loss that is negative
        somewhere says little of progress and is not judged.

    False alarms
        A task where nothing can be learned, such as random labels, with a learning rate that would
        be too high for another task. A loss that is meant to grow.

    What to try
        - Divide the learning rate by ten, and again, until the ratio is near 1e-3. For Adam begin
          at 1e-3 or 3e-4: rates of 0.1 are for SGD.
        - Let it grow over the first steps (warm-up), and clip the gradient against the odd large
          one.
        - With momentum 0.9 the update is ten times as long as the learning rate says.

    References
        - Karpathy (2019), A recipe for training neural networks; Stanford CS231n, Neural networks
          3: the ratio of weights to updates.
        - Smith (2017), Cyclical learning rates: the learning rate range test.
    """

    code: ClassVar[str] = "SG107"
    name: ClassVar[str] = "update-too-large"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ("update_ratio",)
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG101",
        "SG102",
        "SG103",
        "SG104",
        "SG108",
        "SG201",
        "SG202",
        "SG203",
    )

    min_ratio: float = 0.05
    thrown_up: float = 3.0  # of the first loss
    high_ratio: float = 0.25
    raised: float = 1.2  # of the first loss
    peak: float = 2.0  # of the first loss
    lasting_ratio: float = 0.04
    lasting: int = 4  # groups
    stuck_groups: int = 2
    stuck_share: float = 0.95  # of the first loss
    usual_noise: float = 0.05  # of the loss
    wrecking_ratio: float = 1.0
    wrecked_share: float = 0.85  # of the first loss
    max_growth: float = 30.0  # of the gradient norm against the first
    min_evaluated: int = 5  # steps

    _step_groups: StepGroupCollector = field(
        default_factory=StepGroupCollector, init=False, repr=False
    )
    _tracks: dict[int, _LargeUpdateTrack] = field(
        default_factory=dict[int, "_LargeUpdateTrack"], init=False, repr=False
    )

    def read_with(self, readers: SharedReaders) -> None:
        self._step_groups = readers.step_groups

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        for optimizer, rows in block.updated:
            if optimizer not in self._tracks:
                self._tracks[optimizer] = _first_step(block, int(rows[0]), optimizer)
        for step_group in block.read_by(self._step_groups):
            yield from self._judge(step_group)

    def finish(self) -> Iterator[Finding]:
        for step_group in self._step_groups.rest(self.min_evaluated):
            yield from self._judge(step_group)

    def shortfall(self) -> Message | None:
        steps = self._step_groups.num_steps
        if steps < self.min_evaluated:
            return say(
                "needs {needed} steps with an update, has {has}",
                needed=self.min_evaluated,
                has=steps,
            )
        return None

    def _judge(self, step_group: StepGroup) -> Iterator[Finding]:
        track, level = self._tracks[step_group.optimizer], step_group.loss_level
        explodes = (
            track.plain_loss >= ExplodingGradient.min_first_loss * step_group.batch.weights.guess
        )
        track.is_judged &= not explodes and not step_group.batch.below_zero[step_group.index]
        self._take(track, step_group)
        track.lowest = min(track.lowest, level)
        exploded = not self._is_calm(track, step_group)
        fell = (
            track.lowest < self.wrecked_share * track.first_loss
            and track.largest_group < self.high_ratio / 2
        )
        if exploded and fell and step_group.number > 0 and track.finding is None:
            track.is_judged = False
        if not track.is_judged or not track.first_loss > 0 or math.isnan(level):
            return
        peak = step_group.batch.peaks[step_group.index]
        relative, margin = (
            level / track.first_loss,
            3 * max(step_group.loss_noise - self.usual_noise, 0),
        )
        thrown_up = (track.recent >= self.min_ratio and relative >= self.thrown_up) or (
            track.recent >= self.high_ratio
            and relative >= self.raised
            and peak >= self.peak * track.first_loss
        )
        wrecked = track.at_first.ratio >= self.wrecking_ratio
        is_stuck = (
            step_group.number > 0
            and relative >= (self.wrecked_share if wrecked else self.stuck_share) + margin
        )
        track.num_stuck = track.num_stuck + 1 if is_stuck else 0
        moved = (
            wrecked or track.largest_group >= self.high_ratio or track.num_lasting >= self.lasting
        )
        if track.finding is None and (
            thrown_up or (moved and track.num_stuck >= self.stuck_groups)
        ):
            track.finding = self._finding(track, step_group, thrown_up)
            yield track.finding
        elif track.finding is not None and relative >= self.wrecked_share:
            track.finding = replace(track.finding, last_step=step_group.last_step)
            yield track.finding

    def _take(self, track: _LargeUpdateTrack, step_group: StepGroup) -> None:
        """Take in how far the weights moved while the gradient was still of its first size."""
        calm = step_group.grad_norm <= self.max_growth * track.first_norm
        if self._is_calm(track, step_group):
            ratios, ratio = (
                step_group.batch.ratios[step_group.index],
                step_group.batch.ratio_levels[step_group.index],
            )
        else:
            ratios = column_medians(np.where(calm[:, None], step_group.ratio, np.nan))
            ratio = median(ratios)
        previous = track.group if step_group.number > 0 else track.at_first.ratio
        track.group = 0.0 if math.isnan(ratio) else ratio
        track.recent = max(track.group, previous)
        track.largest_group = max(track.largest_group, track.group)
        track.num_lasting = track.num_lasting + 1 if ratio >= self.lasting_ratio else 0
        if (
            track.since < 0
            and max(previous, step_group.batch.largest_ratios[step_group.index])
            >= self.lasting_ratio
        ):
            large = np.flatnonzero(
                (np.where(calm[:, None], step_group.ratio, 0) >= self.lasting_ratio).any(axis=1)
            )
            track.since = (
                track.at_first.step
                if previous >= self.lasting_ratio
                else int(step_group.steps[large[0]])
                if len(large)
                else -1
            )
        if track.group > track.shown.ratio:
            column = int(
                np.nanargmin(np.abs(np.where(np.isfinite(ratios), ratios, np.nan) - ratio))
            )
            row = int(np.flatnonzero(calm & np.isfinite(step_group.ratio[:, column]))[0])
            track.shown = _RelativeUpdate(
                ratio,
                int(step_group.steps[row]),
                step_group.weights[column].name,
                float(step_group.ratio[row, column]),
            )

    def _is_calm(self, track: _LargeUpdateTrack, step_group: StepGroup) -> bool:
        """Whether all norms are still of the size of the first."""
        return (
            step_group.batch.highest_norms[step_group.index] <= self.max_growth * track.first_norm
        )

    def _finding(self, track: _LargeUpdateTrack, step_group: StepGroup, thrown_up: bool) -> Finding:
        shown, step = track.shown, step_group.last_step
        values: dict[str, str | int | float] = {
            "percent": shown.value * 100,
            "parameter": shown.parameter,
            "first_loss": track.first_loss,
            "loss": step_group.loss_level,
            "step": step,
            "shown_step": shown.step,
        }
        cause = (
            say(
                "the learning rate is too high: at step {shown_step} one update moves {parameter} "
                "by {percent:.3g} % of its size, and the "
                "loss went up from {first_loss:.3g} to {loss:.3g} by step {step}",
                **values,
            )
            if thrown_up
            else say(
                "the learning rate is too high: at step {shown_step} one update moves {parameter} "
                "by {percent:.3g} % of its size, and at "
                "step {step} the loss is still {loss:.3g}, where it began at {first_loss:.3g}",
                **values,
            )
        )
        evidence = (
            Evidence("update_ratio", shown.parameter, shown.step, shown.value, self.min_ratio),
            Evidence("loss", "", step, step_group.loss_level, track.first_loss),
        )
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=step_group.optimizer,
            first_step=min(track.since, shown.step) if track.since >= 0 else shown.step,
            last_step=step,
            parameters=tuple(each.name for each in step_group.weights),
            evidence=evidence,
            cause=cause,
            advice=_advice(step_group.kind, track.at_first.lr),
            where=step_group.where,
            excerpt=f"torch.optim.{step_group.kind or 'SGD'}(model.parameters(), "
            f"lr={track.at_first.lr / 10:.1g})",
        )


@dataclass(frozen=True, slots=True)
class _RelativeUpdate:
    """How far the weights moved: the median ratio, and one weight near to it."""

    ratio: float = 0.0
    step: int = -1
    parameter: str = ""
    value: float = 0.0
    lr: float = 0.0


@dataclass(slots=True)
class _LargeUpdateTrack:
    """What is remembered of one optimizer."""

    first_loss: float
    first_norm: float  # of the gradient
    at_first: _RelativeUpdate
    shown: _RelativeUpdate
    plain_loss: float  # the first loss, where it is a plain mean
    group: float = 0.0  # ratio of the last group
    recent: float = 0.0  # the larger of the last two
    largest_group: float = 0.0
    since: int = -1  # iteration
    lowest: float = math.inf  # loss of a group
    num_lasting: int = 0  # groups
    num_stuck: int = 0  # groups
    is_judged: bool = True
    finding: Finding | None = None


def _first_step(block: RowBatch, row: int, optimizer: int) -> _LargeUpdateTrack:
    """What the first step of an optimizer does to the weights, as the learning rate and the
    gradient give it.
    """
    step = block.steps[row]
    moved = _RelativeUpdate(lr=float(step["lr"]), step=int(step["iteration"]))
    sampled = weight_norms(block, row)
    kind = next((each.kind for each in block.optimizers if each.index == optimizer), "")
    columns = [
        column
        for column, each in enumerate(block.parameters)
        if is_weight(each) and each.optimizer == optimizer and not each.group
    ]
    if sampled is not None and kind in (*PLAIN, *BY_SIGN) and columns:
        usable = (block.state[row, columns] == State.FINITE) & (sampled[columns] > 0)
        norm = (
            statistic(block, "applied_norm")[row, columns]
            if kind in PLAIN
            else _num_moving(block, row, columns) ** 0.5
        )
        ratios = np.where(usable, moved.lr * norm / np.where(usable, sampled[columns], 1), np.nan)
        middle = median(ratios)
        if not math.isnan(middle):
            nearest = int(np.nanargmin(np.abs(ratios - middle)))
            moved = replace(
                moved,
                ratio=middle,
                parameter=block.parameters[columns[nearest]].name,
                value=float(ratios[nearest]),
            )
    known = not int(step["flags"]) & int(StepFlag.NO_LOSS) and not _explodes(block, row)
    return _LargeUpdateTrack(
        float(step["loss"]) if known else math.nan,
        float(step["grad_norm"]),
        moved,
        moved,
        plain_loss(block, row),
    )


def _explodes(block: RowBatch, row: int) -> bool:
    """Whether the gradient is beyond bounds before any update."""
    explosion = ExplodingGradient()
    depths = depths_of(
        explosion,
        [LayeredBlock(block, layers) for layers in chains_of(block.parameters)],
        signal_too=True,
    )
    return float(block.steps["grad_norm"][row]) >= explosion.min_norm or (
        any(bool(depth.by_whole[row] or depth.by_signal[row]) for depth in depths)
    )


def _num_moving(block: RowBatch, row: int, columns: list[int]) -> FloatArray:
    """Scalars with a gradient that is not zero."""
    numel = np.array([block.parameters[column].numel for column in columns], np.float64)
    return np.maximum(numel - statistic(block, "zeros")[row, columns], 0)


def _advice(kind: str, lr: float) -> Message:
    if kind in BY_SIGN and lr >= 0.02:
        return say(
            "{kind} moves every weight by about the learning rate in each step: use 1e-3 or less, "
            "not {lr:.2g}",
            kind=kind,
            lr=lr,
        )
    return say(
        "divide the learning rate by ten ({lr:.2g} becomes {tenth:.1g}), and again if need be, "
        "until an update is about a thousandth of "
        "the weight; let it grow over the first steps",
        lr=lr,
        tenth=lr / 10,
    )
