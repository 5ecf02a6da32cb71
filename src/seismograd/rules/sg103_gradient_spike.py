"""SG103 gradient-spike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, largest_parameters, numbers, site_of
from seismograd.analysis.medians import median
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    FloatArray,
    IntArray,
    RowBatch,
    StepFlag,
)

NORMAL = 1.4826  # standard deviation of a normal distribution / median distance from its median


@final
@dataclass
class GradientSpike(Rule):
    """One step, or a few steps, with a gradient far larger than all others, and a loss to match.

    What it finds
        A batch that does not fit the others (wrong labels, a sample that is not normalised, a
        corrupt file), a sudden rise of the learning rate, or a loss that is multiplied by a
        thousand by mistake: anything that throws training off course for a moment.

    Why it hurts
        The update grows in proportion to the gradient. It can undo thousands of good steps, and
        with Adam the second moment stays inflated for hundreds of steps afterwards, during which
        the model hardly learns anything.

    How it decides
        The gradient norm over all parameters is compared with those of the {window:g} steps before,
        on a logarithmic scale. It is a spike when all of the following hold: the norm is at least
        {min_factor:g} times their median; its distance from the median is at least
        {min_deviations:g} times as large as usual (measured by the median distance); it is at least
        {above_largest:g} times the largest of them; and the loss is higher than all of theirs, and
        higher than their median by half of that median. If the loss did not rise, is unknown, or
        was not always positive, the norm must be at least {min_alone:g} times the median. If the
        loss is at least {leap:g} times as large as any of theirs, and larger than any of the first
        losses, {min_with_leap:g} times the median is enough. The first {first_steps:g} steps of an
        optimizer never count as spikes, nor does a norm below the median of those steps. Spikes are
        left out of the median. The norm must come back within {longest:g} steps: a norm that stays
        high, or ends in NaN after {short:g} steps or more, is an explosion.

    False alarms
        An occasional batch that really is harder than all others. Noisy gradients, as in
        reinforcement learning, are often far from their median and are not reported.

    What to try
        - Check the batch of that step. Make the data loader return the indices, or run with a fixed
          seed, so that you can find it.
        - Clip: call `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` between `backward`
          and `step`.
        - After a warm restart of the learning rate, increase it gradually over several steps.

    References
        - Chowdhery et al. (2022), PaLM: loss spikes and skipped batches.
        - Takase, Kiyono, Kobayashi, Suzuki (2023), Spike no more.
    """

    code: ClassVar[str] = "SG103"
    name: ClassVar[str] = "gradient-spike"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG104",)

    window: int = 32  # steps
    first_steps: int = 10
    min_factor: float = 10.0
    min_deviations: float = 6.0
    above_largest: float = 3.0
    min_alone: float = 100.0
    leap: float = 5.0  # of the loss
    min_with_leap: float = 4.0
    longest: int = 10  # steps
    short: int = 3  # steps

    _tracks: dict[int, _SpikeTrack] = field(
        default_factory=dict[int, "_SpikeTrack"], init=False, repr=False
    )

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for optimizer, rows in block.updated:
            track = self._tracks.setdefault(optimizer, _SpikeTrack())
            self._follow(track, block, rows, optimizer)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for track in self._tracks.values():
            if track.num_pending < self.short:
                self._end(track)
        return self.found.take()

    def shortfall(self) -> Message | None:
        steps = max((track.count for track in self._tracks.values()), default=0)
        if steps <= self.first_steps:
            return say(
                "needs {needed} steps with finite gradients, has {has}",
                needed=self.first_steps + 1,
                has=steps,
            )
        return None

    def _follow(self, track: _SpikeTrack, block: RowBatch, rows: IntArray, optimizer: int) -> None:
        """Read the rows of one optimizer."""
        norm = numbers(block.steps, "grad_norm")[rows]
        finite = np.isfinite(norm) & (norm > 0)
        unknown = (integers(block.steps, "flags")[rows] & int(StepFlag.NO_LOSS)) != 0
        height = np.log10(norm, where=finite, out=np.full(len(rows), np.nan))
        loss = np.where(unknown, np.nan, numbers(block.steps, "loss")[rows])
        track.begin(height[finite], loss[finite], self.first_steps)
        lowest = min(
            float(np.min(height, where=finite, initial=math.inf)),
            float(track.height.min(initial=math.inf)),
        )
        highest = float(np.max(height, where=finite, initial=-math.inf))
        if track.pending is None and highest < lowest + math.log10(
            min(self.min_factor, self.min_with_leap)
        ):
            track.add(height[finite], loss[finite], self.window)
            return
        position, high = 0, None
        while position < len(rows):
            if track.pending is None:
                high = (
                    self._may_stand_out(track, np.where(finite, height, -math.inf), position)
                    if high is None
                    else high
                )
                stop = next((each for each in high if each >= position), len(rows))
                passed = finite[position:stop]
                track.add(height[position:stop][passed], loss[position:stop][passed], self.window)
                position = stop
                if position == len(rows):
                    break
            usual = (
                self._usual_before(track, float(height[position]), float(loss[position]))
                if finite[position]
                else None
            )
            if usual is not None:
                track.rise(
                    self._finding(block, int(rows[position]), usual, optimizer), self.longest
                )
                position, high = position + 1, None
                continue
            broken = not finite[position] and track.num_pending >= self.short
            if broken:
                track.drop()
            else:
                self._end(track)
            if finite[position]:
                track.add(
                    height[position : position + 1], loss[position : position + 1], self.window
                )
            position += 1

    def _end(self, track: _SpikeTrack) -> None:
        """End a spike: the gradient is back. The first one is described, the last one ends the
        finding.
        """
        if track.pending is not None:
            self.found.add_or_extend(track.pending)
        track.drop()

    def _may_stand_out(self, track: _SpikeTrack, height: FloatArray, start: int) -> list[int]:
        """Return the positions from `start` on that are high above the lowest before them, and not
        below the highest, while no spike comes.

        `height` is -inf where there is no norm.
        """
        there = np.flatnonzero(height[start:] > -math.inf) + start
        if not len(there):
            return []
        before = np.concatenate([np.full(self.window, math.nan), track.height, height[there]])[
            len(track.height) : -1
        ]
        # the heights before each
        windows = np.lib.stride_tricks.sliding_window_view(before, self.window)
        largest, lowest = np.fmax.reduce(windows, axis=1), np.fmin.reduce(windows, axis=1)
        above = math.log10(min(self.min_factor, self.min_with_leap))
        may = (height[there] >= largest + min(math.log10(self.above_largest), 0)) & (
            height[there] - lowest >= above
        )
        return as_list(there[may])

    def _usual_before(
        self, track: _SpikeTrack, height: float, loss: float
    ) -> _SpikeBaseline | None:
        """Return the usual norm before, when this one stands out from it."""
        if len(track.height) < self.first_steps:
            return None
        middle, largest = median(track.height), float(track.height.max())
        spread = NORMAL * median(np.abs(track.height - middle))
        above = height - middle
        known = track.loss[np.isfinite(track.loss)]
        usual_loss, largest_loss = (
            (median(known), float(known.max())) if len(known) else (math.nan, math.nan)
        )
        positive = len(known) > 0 and bool((known > 0).all())
        rises = positive and loss > max(usual_loss + abs(usual_loss) / 2, largest_loss)
        leaps = (
            positive
            and loss >= self.leap * largest_loss
            and loss > track.first_loss
            and above >= math.log10(self.min_with_leap)
        )
        far = above >= max(math.log10(self.min_factor), self.min_deviations * spread) and (
            rises or above >= math.log10(self.min_alone)
        )
        stands_out = (
            far
            and height >= largest + math.log10(self.above_largest)
            and height >= median(track.first)
        )
        return (
            _SpikeBaseline(10**middle, usual_loss, rises)
            if stands_out or (leaps and height > largest)
            else None
        )

    def _finding(self, block: RowBatch, row: int, usual: _SpikeBaseline, optimizer: int) -> Finding:
        step, norm = int(block.steps["iteration"][row]), float(block.steps["grad_norm"][row])
        loss, lr = float(block.steps["loss"][row]), float(block.steps["lr"][row])
        known = not int(block.steps["flags"][row]) & int(StepFlag.NO_LOSS)
        values: dict[str, str | int | float] = {
            "step": step,
            "norm": norm,
            "times": norm / usual.norm,
            "usual": usual.norm,
        }
        evidence = [Evidence("grad_norm", "", step, norm, self.min_factor * usual.norm)]
        if usual.rises:
            evidence.append(Evidence("loss", "", step, loss, usual.loss))
        return self.finding(
            optimizer=optimizer,
            first_step=step,
            parameters=largest_parameters(block, row),
            evidence=tuple(evidence),
            cause=_cause(values, loss, known=known, usual=usual),
            advice=say(
                "check the batch of step {step} (and the schedule, if the learning rate has just "
                "been raised to {lr:.2g}); clip the gradients between backward and step, so that "
                "no single batch can do much harm",
                step=step,
                lr=lr,
            ),
            where=site_of(block, EventKind.BACKWARD, step),
            excerpt="torch.nn.utils.clip_grad_norm_(model.parameters(), "
            "max_norm=1.0)\noptimizer.step()",
        )


@dataclass(frozen=True, slots=True)
class _SpikeBaseline:
    """The level before a spike, and whether the loss rises with it."""

    norm: float
    loss: float
    rises: bool


def _cause(
    values: dict[str, str | int | float], loss: float, *, known: bool, usual: _SpikeBaseline
) -> Message:
    """What the loss did while the norm jumped, as far as that is known."""
    if known and math.isnan(loss):
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
            "usually was, and the loss is {loss}",
            loss="nan",
            **values,
        )
    if not known or math.isnan(usual.loss):
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
            "usually was",
            **values,
        )
    losses = {"loss": loss, "usual_loss": usual.loss}
    if usual.rises:
        return say(
            "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual "
            "value, and the loss jumps from {usual_loss:.3g} to {loss:.3g}: this batch differs "
            "from the others, or the previous update was too large",
            **values,
            **losses,
        )
    return say(
        "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times its usual value, "
        "but the loss does not jump",
        **values,
        **losses,
    )


@dataclass(slots=True)
class _SpikeTrack:
    """The state of one optimizer."""

    count: int = 0  # steps
    height: FloatArray = field(default_factory=lambda: np.zeros(0))  # logarithms of the last norms
    loss: FloatArray = field(default_factory=lambda: np.zeros(0))
    first: FloatArray = field(default_factory=lambda: np.zeros(0))  # logarithms of the first norms
    first_loss: float = -math.inf  # the largest of those steps
    pending: Finding | None = None  # a spike that has not ended
    num_pending: int = 0  # its steps so far

    def begin(self, height: FloatArray, loss: FloatArray, num: int) -> None:
        """Keep the first steps."""
        fresh = max(num - len(self.first), 0)
        self.first = np.concatenate([self.first, height[:fresh]])
        self.first_loss = float(
            np.max(loss[:fresh], where=np.isfinite(loss[:fresh]), initial=self.first_loss)
        )

    def add(self, height: FloatArray, loss: FloatArray, window: int) -> None:
        """Add steps without a spike."""
        self.count += len(height)
        self.height = np.concatenate([self.height, height])[-window:]
        self.loss = np.concatenate([self.loss, loss])[-window:]

    def rise(self, finding: Finding, longest: int) -> None:
        """Add a step that stands out; steps that stand out for long are not a spike but a new
        level.
        """
        self.count += 1
        self.num_pending += 1
        self.pending = (
            finding if self.pending is None else replace(self.pending, last_step=finding.last_step)
        )
        if self.num_pending > longest:
            self.drop()
            self.height, self.loss = np.zeros(0), np.zeros(0)

    def drop(self) -> None:
        """Discard it: nothing stands out any more."""
        self.pending, self.num_pending = None, 0
