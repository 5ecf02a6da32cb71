"""Follow how many scalars the updates of one optimizer leave unmoved, group of steps by group of
steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.medians import median
from seismograd.analysis.step_groups import StepGroup, TrainingStart
from seismograd.schema import FloatArray, IntArray


@dataclass(slots=True)
class LostUpdateTrack:
    """The state of one optimizer, since it began, after its last group."""

    start: TrainingStart
    first: int  # number of the first group
    last: StepGroup
    shares: list[float] = field(default_factory=list[float])  # that did not move, of each group
    # of the weights in few digits, in the last group
    columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    unmoved: FloatArray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, first: StepGroup) -> LostUpdateTrack:
        """Begin with this group, which is still to be added."""
        return cls(TrainingStart.of(first), first.number, first)

    def add(self, step_group: StepGroup, most: int) -> None:
        """Add the next group; the shares of the first so many are kept."""
        self.last = step_group
        short = step_group.batch.weights.in_few_digits
        if not len(short):
            self.columns, self.unmoved = short, np.zeros(0)
        else:
            unmoved = step_group.batch.unmoved_shares[step_group.index, short]
            measured = np.isfinite(unmoved)
            self.columns, self.unmoved = short[measured], unmoved[measured]
        if len(self.shares) < most:
            self.shares.append(self.share)

    @property
    def num_groups(self) -> int:
        """Return how many groups there are."""
        return self.last.number - self.first + 1

    @property
    def share(self) -> float:
        """Return which share of the scalars the last group left unmoved, NaN where none of its
        weights is in few digits.
        """
        return median(self.unmoved) if len(self.unmoved) else math.nan

    def is_lost(self, num: int, min_unmoved: float) -> bool:
        """Return whether each of the first groups, and the last one, left this share unmoved."""
        # never of a NaN
        return (
            len(self.unmoved) > 0
            and len(self.shares) >= num
            and all(share >= min_unmoved for share in (*self.shares[:num], self.share))
        )

    def middle(self) -> tuple[int, int]:
        """Return the row and column of a probe, in the last group, of the weight in the middle."""
        column = int(self.columns[np.argsort(self.unmoved)[len(self.unmoved) // 2]])
        return int(np.flatnonzero(np.isfinite(self.last.unmoved[:, column]))[0]), column
