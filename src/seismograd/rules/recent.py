"""The last of something: what a rule keeps between blocks so that where they are cut makes no difference."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.rules.rows import BoolArray
from seismograd.schema import IntArray


@dataclass(slots=True)
class Recent:
    """The last `size` entries of a growing list of steps and whether each of them showed something."""

    size: int
    shown: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    steps: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    count: int = 0  # of all entries so far

    def add(self, shown: BoolArray, steps: IntArray, width: int, enough: int) -> tuple[int, int] | None:
        """Take in new entries.

        Gives the index among them of the first at which at least `enough` of the last `width` (at most `size`) have shown it, and the
        step at which the first of those did. Of fewer than `width` entries at least half must have, too.
        """
        reached = None
        before = len(self.shown)
        self.shown = np.concatenate([self.shown, shown])
        self.steps = np.concatenate([self.steps, steps])
        if shown.any():
            total = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.shown)])
            end = np.arange(before, len(self.shown)) + 1
            start = np.maximum(end - width, 0)
            hits = total[end] - total[start]
            at = np.flatnonzero((hits >= enough) & (2 * hits >= end - start))
            if len(at):
                index = int(at[0])
                span = slice(int(start[index]), int(end[index]))
                reached = index, int(self.steps[span][np.argmax(self.shown[span])])
        self.count += len(shown)
        self.shown, self.steps = self.shown[-self.size :], self.steps[-self.size :]
        return reached

    def share(self, width: int) -> float:
        """The part of the last `width` entries that have shown it; 0 when there are none."""
        last = self.shown[-width:]
        return float(last.mean()) if len(last) else 0.0
