"""Follow how many scalars the updates of one optimizer leave unmoved, group of steps by group of
steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.medians import median
from seismograd.analysis.step_groups import StepGroup, TrainingStart
from seismograd.schema import FloatArray, IntArray


@dataclass(slots=True)
class LostUpdateTrack:
    """The state of one optimizer after its last group."""

    start: TrainingStart
    last: StepGroup
    num: int = 0  # groups from the first on without exception
    is_lost: bool = False  # in the last group
    # of the weights in few digits, in the last group that was lost
    columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    unmoved: FloatArray = field(default_factory=lambda: np.zeros(0))

    def add(self, step_group: StepGroup, min_unmoved: float) -> None:
        """Add the next group; its updates are lost where at least this share did not move."""
        self.last, self.is_lost = step_group, False
        short = step_group.batch.weights.in_few_digits
        if not len(short):
            return
        unmoved = step_group.batch.unmoved_shares[step_group.index, short]
        measured = np.isfinite(unmoved)
        self.is_lost = median(unmoved[measured]) >= min_unmoved
        if self.is_lost:
            self.num += int(self.num == step_group.number)
            self.columns, self.unmoved = short[measured], unmoved[measured]

    def middle(self) -> tuple[int, int]:
        """Return the row and column of a probe, in the last group, of the weight in the middle."""
        column = int(self.columns[np.argsort(self.unmoved)[len(self.unmoved) // 2]])
        return int(np.flatnonzero(np.isfinite(self.last.unmoved[:, column]))[0]), column
