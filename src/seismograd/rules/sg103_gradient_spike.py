"""SG103 gradient-spike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers, site_of
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg102.explosion import largest_parameters
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
    """One step, or a few, with a gradient far above all others, and a loss to match.

    What it finds
        A batch that does not belong with the others (wrong labels, a sample that is not normalised,
        a corrupt file), a sudden rise of the learning rate, or a loss that is weighted a
        thousandfold by mistake: whatever throws training out of its track for a moment.

    Why it hurts
        The update is as much larger as the gradient. It can undo thousands of good steps, and with
        Adam the second moment stays inflated for hundreds of steps more, in which hardly anything
        is learned.

    How it decides
        The gradient norm over all parameters is held against the {window:g} steps before, in
        logarithms. It is a spike when it is at least {min_factor:g} times their median,
        {min_deviations:g} times as far from it as they usually are (median distance), and
        {above_largest:g} times the largest of them; and when the loss is higher than all of theirs,
        and than their median by half of it. Where the loss did not rise, is not known, or was not
        always positive, it takes {min_alone:g} times the median. Where the loss is {leap:g} times
        as large as any of theirs, and larger than any of the first, {min_with_leap:g} times the
        median is enough. The first {first_steps:g} steps of an optimizer are no spikes, nor is a
        norm below the median of those. Spikes do not enter the median. The norm must come back
        within {longest:g} steps: what stays, or ends in NaN after {short:g} steps or more, is an
        explosion.

    False alarms
        A rare batch that is truly harder than all others. Noisy gradients, as in reinforcement
        learning, lie far from their median all the time, and are not reported.

    What to try
        - Look at the batch of that step. Make the data loader return the indices, or run with a
          fixed seed, so that it can be found.
        - Clip: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` between `backward` and
          `step`.
        - After a warm restart of the learning rate, let it grow over some steps.

    References
        - Chowdhery et al. (2022), PaLM: loss spikes, and batches that were skipped.
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

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        for optimizer, rows in block.updated:
            track = self._tracks.setdefault(optimizer, _SpikeTrack())
            if self._follow(track, block, rows, optimizer) and track.finding is not None:
                yield track.finding

    def finish(self) -> Iterator[Finding]:
        for track in self._tracks.values():
            if (
                track.pending is not None
                and track.num_pending < self.short
                and track.settle()
                and track.finding is not None
            ):
                yield track.finding

    def shortfall(self) -> Message | None:
        steps = max((track.count for track in self._tracks.values()), default=0)
        if steps <= self.first_steps:
            return say(
                "needs {needed} steps with finite gradients, has {has}",
                needed=self.first_steps + 1,
                has=steps,
            )
        return None

    def _follow(self, track: _SpikeTrack, block: RowBatch, rows: IntArray, optimizer: int) -> bool:
        """Take in the rows of one optimizer; whether a spike has come to its end in them."""
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
            return False
        ended, position, high = False, 0, None
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
            ended |= track.settle() if not broken else track.drop()
            if finite[position]:
                track.add(
                    height[position : position + 1], loss[position : position + 1], self.window
                )
            position += 1
        return ended

    def _may_stand_out(self, track: _SpikeTrack, height: FloatArray, start: int) -> list[int]:
        """The places from `start` on that are high above the lowest before them, and not below the
        highest, while no spike comes.

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
        """What was usual, when this norm stands out from it."""
        if len(track.height) < self.first_steps:
            return None
        middle, largest = float(np.median(track.height)), float(track.height.max())
        spread = NORMAL * float(np.median(np.abs(track.height - middle)))
        above = height - middle
        known = track.loss[np.isfinite(track.loss)]
        usual_loss, largest_loss = (
            (float(np.median(known)), float(known.max())) if len(known) else (math.nan, math.nan)
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
            and height >= float(np.median(track.first))
        )
        return (
            _SpikeBaseline(10**middle, usual_loss, rises)
            if stands_out or (leaps and height > largest)
            else None
        )

    def _finding(self, block: RowBatch, row: int, usual: _SpikeBaseline, optimizer: int) -> Finding:
        step, norm = int(block.steps["iteration"][row]), float(block.steps["grad_norm"][row])
        loss, lr = float(block.steps["loss"][row]), float(block.steps["lr"][row])
        values: dict[str, str | int | float] = {
            "step": step,
            "norm": norm,
            "times": norm / usual.norm,
            "usual": usual.norm,
            "loss": loss,
            "usual_loss": usual.loss,
        }
        evidence = [Evidence("grad_norm", "", step, norm, self.min_factor * usual.norm)]
        if usual.rises:
            evidence.append(Evidence("loss", "", step, loss, usual.loss))
            cause = say(
                "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
                "usually was, and the loss from "
                "{usual_loss:.3g} to {loss:.3g}: this batch is unlike the others, or the update "
                "before it was too large",
                **values,
            )
        else:
            cause = say(
                "at step {step} the gradient norm jumps to {norm:.3g}, {times:.2g} times what it "
                "usually was, though the loss does not",
                **values,
            )
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=optimizer,
            first_step=step,
            last_step=step,
            parameters=largest_parameters(block, row),
            evidence=tuple(evidence),
            cause=cause,
            advice=say(
                "look at the batch of step {step} (and, if the learning rate has just been raised "
                "to {lr:.2g}, at the schedule); clip the "
                "gradient between backward and step, so that no batch can do much harm",
                step=step,
                lr=lr,
            ),
            where=site_of(block, EventKind.BACKWARD, step),
            excerpt="torch.nn.utils.clip_grad_norm_(model.parameters(), "
            "max_norm=1.0)\noptimizer.step()",
        )


@dataclass(frozen=True, slots=True)
class _SpikeBaseline:
    """What was usual before a spike; whether the loss rises with it."""

    norm: float
    loss: float
    rises: bool


@dataclass(slots=True)
class _SpikeTrack:
    """What is remembered of one optimizer."""

    count: int = 0  # steps
    height: FloatArray = field(default_factory=lambda: np.zeros(0))  # logarithms of the last norms
    loss: FloatArray = field(default_factory=lambda: np.zeros(0))
    first: FloatArray = field(default_factory=lambda: np.zeros(0))  # logarithms of the first norms
    first_loss: float = -math.inf  # the largest of those steps
    finding: Finding | None = None
    pending: Finding | None = None  # a spike that has not come to its end
    num_pending: int = 0  # its steps so far

    def begin(self, height: FloatArray, loss: FloatArray, num: int) -> None:
        """Keep the first steps."""
        fresh = max(num - len(self.first), 0)
        self.first = np.concatenate([self.first, height[:fresh]])
        self.first_loss = float(
            np.max(loss[:fresh], where=np.isfinite(loss[:fresh]), initial=self.first_loss)
        )

    def add(self, height: FloatArray, loss: FloatArray, window: int) -> None:
        """Take in steps that are no spikes."""
        self.count += len(height)
        self.height = np.concatenate([self.height, height])[-window:]
        self.loss = np.concatenate([self.loss, loss])[-window:]

    def rise(self, finding: Finding, longest: int) -> None:
        """Take in a step that stands out; what stands out for long is no spike but a new level."""
        self.count += 1
        self.num_pending += 1
        self.pending = (
            finding if self.pending is None else replace(self.pending, last_step=finding.last_step)
        )
        if self.num_pending > longest:
            self.drop()
            self.height, self.loss = np.zeros(0), np.zeros(0)

    def settle(self) -> bool:
        """The gradient is back: it was a spike, if there was one. The first one is told, the
        last one ends it.
        """
        if self.pending is None:
            return False
        last = self.pending.last_step
        self.finding = (
            self.pending if self.finding is None else replace(self.finding, last_step=last)
        )
        self.drop()
        return True

    def drop(self) -> bool:
        """It was no spike."""
        self.pending, self.num_pending = None, 0
        return False
