"""Track the gradient norm of one optimizer, to tell steps that stand out from those before them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from seismograd.analysis.batch_sizes import COUNT, expected_growth, forward_filled
from seismograd.analysis.block_rows import integers, numbers
from seismograd.analysis.medians import column_medians, median
from seismograd.schema import Finding, FloatArray, IntArray, RowBatch, StepFlag

HEIGHT, LOSS, SIZE = 0, 1, slice(2, 5)  # logarithm of the norm, loss, size of the batch
USUAL = math.log10(2)  # height above what is usual that is usual still
NORMAL = 1.4826  # standard deviation of a normal distribution / median distance from its median


@dataclass(frozen=True, slots=True)
class SpikeBaseline:
    """The level before a step, and how far the step is from it. Heights are logarithms; those of
    the step, and its loss, are divided by what its batch size explains.
    """

    height: float
    middle: float
    spread: float
    growth: float  # factor of the norm that the size of the batch explains
    loss: float
    usual_loss: float  # NaN: no loss is known
    largest_loss: float
    is_positive: bool  # all losses are
    rises: bool  # the loss does too
    loss_deviations: float  # by which the logarithm of the loss is above its median; inf: of no use
    count: float  # samples
    usual_count: float

    @property
    def norm(self) -> float:
        """Return the usual norm."""
        return float(10**self.middle)

    @property
    def is_judged(self) -> bool:
        """Return whether it is known if the loss rises: about one that was negative only a leap
        says something.
        """
        return self.rises or self.is_positive


@dataclass(slots=True)
class SpikeTrack:
    """The steps of one optimizer: the last `window` that did not stand out, and the first."""

    window: int
    first_steps: int
    count: int = 0
    past: FloatArray = field(default_factory=lambda: np.zeros((0, 5)))
    first: list[float] = field(default_factory=list[float])  # heights
    first_loss: float = -math.inf  # the largest of those steps
    pending: Finding | None = None  # steps that stand out, the last ones so far
    num_pending: int = 0
    held: Finding | None = None  # a spike that is over, until the steps after it are known
    num_after: int = 0  # these, so far
    num_high: int = 0  # of these, those that are nearly as high
    num_again: int = 0  # of the high ones, those after one that was usual
    num_resets: int = 0  # of what is usual
    _usual: float = math.nan  # height before what is pending
    _height: float = math.nan  # of its first step
    _held_limits: tuple[float, float] = (math.nan, math.nan)  # heights: of usual and of high ones
    _is_back: bool = False  # a step after it was usual
    _size: FloatArray = field(default_factory=lambda: np.full(3, np.nan))

    def read(self, block: RowBatch, rows: IntArray, sizes: FloatArray) -> FloatArray:
        """Return the rows as entries of `past`; the height is NaN where the norm is not finite
        # (n, 5).
        """
        norm, loss = numbers(block.steps, "grad_norm")[rows], numbers(block.steps, "loss")[rows]
        unknown = (integers(block.steps, "flags")[rows] & int(StepFlag.NO_LOSS)) != 0
        finite = np.isfinite(norm) & (norm > 0)
        steps = np.full((len(rows), 5), np.nan)
        steps[finite, HEIGHT] = np.log10(norm[finite])
        steps[:, LOSS] = np.where(unknown, np.nan, loss)
        filled = forward_filled(sizes[rows], self._size)
        steps[:, SIZE], self._size = filled, filled[-1]
        fresh = steps[finite][: self.first_steps - len(self.first)]
        self.first.extend(fresh[:, HEIGHT].tolist())
        losses = fresh[np.isfinite(fresh[:, LOSS]), LOSS]
        self.first_loss = max([self.first_loss, *losses.tolist()])
        return steps

    def spans(self, steps: FloatArray, least: float) -> bool:
        """Return whether any height is this far above any other, of these and the past."""
        heights = np.concatenate([steps[:, HEIGHT], self.past[:, HEIGHT]])
        highest, lowest = np.fmax.reduce(heights[: len(steps)]), np.fmin.reduce(heights)
        return bool(highest >= lowest + least)  # false where there is none

    def add(self, steps: FloatArray) -> None:
        """Add steps that do not stand out."""
        if not len(steps):
            return
        self.count += len(steps)
        self._compare(steps[:, HEIGHT])
        self.past = np.concatenate([self.past, steps])[-self.window :]

    def hold(self, spike: Finding, part: float) -> None:
        """Hold a spike that is over; steps of at least this part of its norm are high. One that is
        held already lasts until this one, unless that is only information and this one is more.
        """
        if self.held is None:
            self.held, self.num_after, self.num_high, self.num_again = spike, 0, 0, 0
            self._is_back = False
            self._held_limits = (self._usual + USUAL, self._height + math.log10(part))
        elif self.held.severity == "info" != spike.severity:
            self.held = spike
        elif self.held.severity == spike.severity:
            self.held = replace(self.held, last_step=spike.last_step)

    def baseline(self, step: FloatArray) -> SpikeBaseline:
        """Return the level before this step."""
        heights, losses = self.past[:, HEIGHT], self.past[:, LOSS]
        middle, usual_size = median(heights), column_medians(self.past[:, SIZE])
        of_norm, of_loss = expected_growth(step[SIZE], usual_size)
        loss = float(step[LOSS]) / of_loss
        known = losses[np.isfinite(losses)]
        usual, smallest, largest = math.nan, math.nan, math.nan
        if len(known):
            usual, smallest, largest = median(known), float(known.min()), float(known.max())
        is_positive = smallest > 0
        high = usual + abs(usual) / 2 if is_positive else largest + (largest - smallest)
        return SpikeBaseline(
            height=float(step[HEIGHT]) - math.log10(of_norm),
            middle=middle,
            spread=NORMAL * median(np.abs(heights - middle)),
            growth=of_norm,
            loss=loss,
            usual_loss=usual,
            largest_loss=largest,
            is_positive=is_positive,
            rises=loss > max(high, largest),
            loss_deviations=_deviations(loss, known) if is_positive else math.inf,
            count=float(step[SIZE][COUNT]),
            usual_count=float(usual_size[COUNT]),
        )

    def begin_again(self) -> None:
        """Forget what was usual: another training begins."""
        self.reset()
        self.first.clear()
        self.first_loss = -math.inf

    def reset(self) -> None:
        """Forget the last steps: another level begins."""
        self.past = self.past[:0]
        self.num_resets += 1

    def rise(self, finding: Finding, usual: SpikeBaseline, longest: int) -> None:
        """Add a step that stands out from what is usual; steps that stand out for long are not a
        spike but a new level.
        """
        if self.pending is None:
            self._usual, self._height = usual.middle, usual.height
        self.count += 1
        self.num_pending += 1
        self._compare(np.array([usual.height]))
        self.pending = replace(self.pending or finding, last_step=finding.last_step)
        if self.num_pending > longest:
            self.drop()
            self.reset()

    def _compare(self, heights: FloatArray) -> None:
        """Compare steps with the spike that is held, if one is."""
        if self.held is None:
            return
        self.num_after += len(heights)
        low, high = self._held_limits
        for height in heights.tolist():
            self.num_high += height >= high
            self.num_again += self._is_back and height >= high
            self._is_back |= height <= low

    def drop(self) -> None:
        """Discard it: nothing stands out any more."""
        self.pending, self.num_pending = None, 0


def _deviations(loss: float, known: FloatArray) -> float:
    """Return by how many robust standard deviations of their logarithms a loss is above others."""
    logarithms = np.log(known)
    middle = median(logarithms)
    spread = NORMAL * median(np.abs(logarithms - middle))
    if not loss > 0 or not math.isfinite(loss) or spread == 0:
        return math.inf
    return (math.log(loss) - middle) / spread
