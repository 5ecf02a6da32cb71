"""Detect growth over steps: a norm that rises far above its earlier values, while the loss does not
fall, or falls without a limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.medians import median
from seismograd.analysis.robust_line import fit_line
from seismograd.schema import FloatArray, IntArray

UNBOUNDED = 1e3
"""A loss this many times as far below 0 as the first ones are from it falls without a limit."""


@dataclass(frozen=True, slots=True)
class NormGrowth:
    """Growth of a norm: the index among the new entries at which it was detected, and the steps and
    numbers that show it.
    """

    index: int
    first_step: int  # the first that lies high
    step: int  # at which it was detected
    norm: float
    baseline: float
    loss: float  # NaN: not measured
    loss_baseline: float
    is_unbounded: bool = False  # the loss falls without a limit


@dataclass(frozen=True, slots=True)
class GrowthBaseline:
    """The baseline of a norm, in numbers of steps.

    High above: the last `elevated` lie above the median of the `usual` before them, of which there
    must be `least`. Rising: a line through the logarithms of the last `rising`, or of as many as
    there are, but not fewer than `least_rising`, fits with R² `goodness`. Both must exceed the
    median of the first `early`, unless those are part of the rise.
    """

    usual: int
    early: int
    elevated: int
    rising: int
    least_rising: int
    goodness: float
    least: int = 2
    unbounded: float = UNBOUNDED  # of a loss below 0, against the first ones


@dataclass(slots=True)
class NormSeries:
    """The finite global norms of one optimizer, with their losses; keeps what later ones are
    compared with.
    """

    against: GrowthBaseline
    # norm, loss, step
    past: list[tuple[float, float, int]] = field(default_factory=list[tuple[float, float, int]])
    early: list[float] = field(default_factory=list[float])  # norms
    early_losses: list[float] = field(default_factory=list[float])
    count: int = 0

    def add(
        self, norms: FloatArray, losses: FloatArray, steps: IntArray, factor: float | None
    ) -> NormGrowth | None:
        """Add new entries; return the first at which the norm has grown by `factor`, if any.
        Without `factor` nothing is searched for.

        Where losses are known, none of the last `elevated` may lie below the median loss of the
        baseline, and those of a rise must have doubled: a network that leaves a plateau, or learns
        large outputs, has growing gradients and a falling loss. One that falls without a limit
        counts as one that rises.
        """
        if not len(norms):
            return None
        grown, against = None, self.against
        missing = against.early - len(self.early)
        if missing > 0:
            self.early += norms[:missing].tolist()
            self.early_losses += losses[:missing].tolist()
        lowest = min((norm for norm, _, _ in self.past), default=math.inf)
        if factor is not None and norms.max() >= factor * min(lowest, norms.min()):
            grown = self._search(norms, losses, steps, factor)
        self.count += len(norms)
        kept = max(against.usual + against.elevated, against.rising)
        fresh = zip(
            norms[-kept:].tolist(), losses[-kept:].tolist(), steps[-kept:].tolist(), strict=True
        )
        self.past = [*self.past, *fresh][-kept:]
        return grown

    def _search(
        self, norms: FloatArray, losses: FloatArray, steps: IntArray, factor: float
    ) -> NormGrowth | None:
        before = len(self.past)
        entries = [*self.past, *zip(norms.tolist(), losses.tolist(), steps.tolist(), strict=True)]
        norm, loss = (np.array([entry[column] for entry in entries]) for column in (0, 1))
        is_unbounded = loss < -self.against.unbounded * max(1.0, *map(abs, self.early_losses))
        judged = np.where(is_unbounded, np.inf, loss)
        for end in range(before + 1, len(entries) + 1):
            found = self._high_above(norm, judged, end, factor) or self._rising(
                norm, judged, end, factor
            )
            if found is not None:
                first, baseline, loss_baseline = found
                now = end - 1
                return NormGrowth(
                    now - before,
                    entries[first][2],
                    entries[now][2],
                    float(norm[now]),
                    baseline,
                    float(loss[now]),
                    median(self.early_losses) if is_unbounded[now] else loss_baseline,
                    bool(is_unbounded[now]),
                )
        return None

    def _high_above(
        self, norm: FloatArray, loss: FloatArray, end: int, factor: float
    ) -> tuple[int, float, float] | None:
        """Return the position of the first high norm, the baseline, and that of the loss, when the
        last norms are high at `end`.
        """
        start = end - self.against.elevated
        if start < self.against.least:
            return None
        high, usual = slice(start, end), slice(max(start - self.against.usual, 0), start)
        if norm[high].min() < factor * norm[usual].min():
            return None
        baseline = max(median(norm[usual]), self._early(start))
        loss_baseline = median(loss[usual])
        if not 0 < factor * baseline <= norm[high].min() or bool(
            (loss[high] < loss_baseline).any()
        ):
            return None
        return start, baseline, loss_baseline

    def _rising(
        self, norm: FloatArray, loss: FloatArray, end: int, factor: float
    ) -> tuple[int, float, float] | None:
        """Return the same when the norms have risen along a line until `end`."""
        start = max(end - self.against.rising, 0)
        rise = norm[start:end]
        if (
            len(rise) < self.against.least_rising
            or not 0 < factor * rise.min() <= rise[-1]
            or rise[-1] < factor * self._early(start)
        ):
            return None
        slope, goodness = fit_line(np.log10(rise)[None])
        loss_baseline = median(loss[start : start + len(rise) // 2])
        decades = float(slope[0]) * (len(rise) - 1)
        if decades < math.log10(factor) or goodness[0] < self.against.goodness:
            return None
        if bool(
            (loss[end - self.against.elevated : end] < loss_baseline + abs(loss_baseline)).any()
        ):
            return None
        baseline = float(rise.min())
        return start + int(np.argmax(rise >= 10 * baseline)), baseline, loss_baseline

    def _early(self, start: int) -> float:
        """Return the median of the first norms of all, of those that precede a position in what is
        kept and new; 0 when none does.
        """
        early = self.early[: max(self.count - len(self.past) + start, 0)]
        return median(early) if early else 0.0
