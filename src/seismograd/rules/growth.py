"""Growth over steps: a norm that stays far above what it was before, while the loss does not fall."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seismograd.schema import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Growth:
    """Where a norm has grown: the index among the new entries at which it was known, and the steps and numbers that show it."""

    index: int
    first_step: int  # the first of the elevated ones
    step: int  # at which it was known
    norm: float
    baseline: float
    loss: float  # NaN: not measured
    loss_baseline: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a norm is held against, in numbers of steps.

    `usual` before the elevated ones, `early` from the very first, `elevated` in a row that must lie above; at least `least` before those.
    """

    usual: int
    early: int
    elevated: int
    least: int = 2


@dataclass(slots=True)
class NormSeries:
    """The finite global norms of one optimizer, with their losses; keeps what the next ones are held against."""

    against: Baseline
    past: list[tuple[float, float, int]] = field(default_factory=list[tuple[float, float, int]])  # norm, loss, step
    early: list[float] = field(default_factory=list[float])  # norms
    count: int = 0

    def add(self, norms: FloatArray, losses: FloatArray, steps: IntArray, factor: float | None) -> Growth | None:
        """Take in new entries; the first at which the last `elevated` norms are all at least `factor` times the baseline.

        The baseline is the larger of two medians: of up to `usual` norms before those, and of up to the first `early` of all. So a norm
        that only comes back from near zero has not grown. Where losses are known, none of the elevated ones may lie below the median loss
        of the baseline: a network that leaves a plateau has larger gradients and a falling loss. Without `factor` nothing is looked for.
        """
        if not len(norms):
            return None
        grown, against = None, self.against
        missing = against.early - len(self.early)
        if missing > 0:
            self.early += norms[:missing].tolist()
        lowest = min((norm for norm, _, _ in self.past), default=math.inf)
        if factor is not None and norms.max() >= factor * min(lowest, norms.min()):
            grown = self._search(norms, losses, steps, factor)
        self.count += len(norms)
        kept = against.usual + against.elevated
        fresh = zip(norms[-kept:].tolist(), losses[-kept:].tolist(), steps[-kept:].tolist(), strict=True)
        self.past = [*self.past, *fresh][-kept:]
        return grown

    def _search(self, norms: FloatArray, losses: FloatArray, steps: IntArray, factor: float) -> Growth | None:
        before, against = len(self.past), self.against
        norm = np.array([*(entry[0] for entry in self.past), *norms])
        loss = np.array([*(entry[1] for entry in self.past), *losses])
        step = [*(entry[2] for entry in self.past), *steps.tolist()]
        for end in range(max(before + 1, against.elevated + against.least), len(norm) + 1):
            start = end - against.elevated
            high, past = slice(start, end), slice(max(start - against.usual, 0), start)
            if norm[high].min() < factor * norm[past].min():
                continue
            early = self.early[: self.count - before + start]  # of those, what lay before the elevated ones
            baseline = max(float(np.median(norm[past])), float(np.median(early)))
            known = loss[past][np.isfinite(loss[past])]
            loss_baseline = float(np.median(known)) if len(known) else math.nan
            if 0 < factor * baseline <= norm[high].min() and not bool((loss[high] < loss_baseline).any()):
                now = end - 1
                return Growth(now - before, step[start], step[now], float(norm[now]), baseline, float(loss[now]), loss_baseline)
        return None
