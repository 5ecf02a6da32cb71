"""Growth over steps: a norm that stays far above what it was before, while the loss does not fall."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.schema import FloatArray, IntArray

BASELINE = 32  # steps whose median is what was usual
EARLY = 10  # first steps, whose median it must exceed as well
ELEVATED = 3  # steps in a row that must lie above
MIN_BASELINE = 2  # steps


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


@dataclass(slots=True)
class NormSeries:
    """The finite global norms of one optimizer, with their losses; keeps what the next ones are held against."""

    norms: FloatArray = field(default_factory=lambda: np.zeros(0))
    losses: FloatArray = field(default_factory=lambda: np.zeros(0))
    steps: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    early: FloatArray = field(default_factory=lambda: np.zeros(0))
    count: int = 0

    def add(self, norms: FloatArray, losses: FloatArray, steps: IntArray, factor: float) -> Growth | None:
        """Take in new entries; the first at which the last `ELEVATED` norms are all at least `factor` times the baseline.

        The baseline is the larger of two medians: of up to `BASELINE` norms before those, and of up to the first `EARLY` of all. So a
        norm that only comes back from near zero has not grown. Where losses are known, none of the elevated ones may lie below the median
        loss of the baseline: a network that leaves a plateau has larger gradients and a falling loss.
        """
        before = len(self.norms)
        self.early = np.concatenate([self.early, norms[: max(EARLY - len(self.early), 0)]])
        self.norms = np.concatenate([self.norms, norms])
        self.losses = np.concatenate([self.losses, losses])
        self.steps = np.concatenate([self.steps, steps])
        grown = None
        if len(norms) and norms.max() >= factor * self.norms.min():
            ends = range(max(before + 1, ELEVATED + MIN_BASELINE), len(self.norms) + 1)
            grown = next((each for end in ends if (each := self._at(end, before, factor)) is not None), None)
        self.count += len(norms)
        kept = slice(max(len(self.norms) - BASELINE - ELEVATED, 0), None)
        self.norms, self.losses, self.steps = self.norms[kept], self.losses[kept], self.steps[kept]
        return grown

    def _at(self, end: int, before: int, factor: float) -> Growth | None:
        """Whether it had grown when `end` entries were there; `before` of them are old."""
        high = slice(end - ELEVATED, end)
        past = slice(max(end - ELEVATED - BASELINE, 0), end - ELEVATED)
        lowest = float(self.norms[high].min())
        if lowest < factor * float(self.norms[past].min()):
            return None
        known = self.count + end - before - ELEVATED  # entries before the elevated ones
        early = self.early[: min(known, EARLY)]
        baseline = max(float(np.median(self.norms[past])), float(np.median(early)))
        losses = self.losses[past][np.isfinite(self.losses[past])]
        loss_baseline = float(np.median(losses)) if len(losses) else np.nan
        if not 0 < factor * baseline <= lowest or bool((self.losses[high] < loss_baseline).any()):
            return None
        return Growth(
            index=end - 1 - before,
            first_step=int(self.steps[end - ELEVATED]),
            step=int(self.steps[end - 1]),
            norm=float(self.norms[end - 1]),
            baseline=baseline,
            loss=float(self.losses[end - 1]),
            loss_baseline=loss_baseline,
        )
