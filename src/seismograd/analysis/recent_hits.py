"""Remember recent entries: what a rule keeps between blocks, so that the result does not depend on
where they are cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray
from seismograd.schema import IntArray


@dataclass(slots=True)
class RecentHits:
    """A growing list of entries, some of which are hits: how many there are, and which of the last
    `size` are.
    """

    size: int
    count: int = 0
    hits: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # their numbers, from 0
    # the iterations of the hits
    steps: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, shown: BoolArray, steps: IntArray, enough: int) -> tuple[int, int] | None:
        """Add new entries and their iterations.

        Returns the index among them of the first at which at least `enough` of the last `size`
        entries are hits (and half of them, while there are fewer than `size`), and the iteration of
        the first of those hits.
        """
        before = self.count
        self.count += len(shown)
        fresh = np.flatnonzero(shown)
        if not len(fresh):
            return None
        old = len(self.hits)
        self.hits = np.concatenate([self.hits, fresh + before])
        self.steps = np.concatenate([self.steps, steps[fresh]])
        entry = self.hits[old:]
        # among the hits, of the last `size` entries
        first = np.searchsorted(self.hits, entry - self.size, side="right")
        num = np.arange(old, len(self.hits)) + 1 - first
        at = np.flatnonzero((num >= enough) & (2 * num >= np.minimum(entry + 1, self.size)))
        reached = (int(fresh[at[0]]), int(self.steps[first[at[0]]])) if len(at) else None
        self.hits, self.steps = self.hits[-self.size :], self.steps[-self.size :]
        return reached

    def num_hits(self, width: int) -> int:
        """Return how many of the last `width` entries (at most `size`) are hits."""
        return len(self.hits) - int(np.searchsorted(self.hits, self.count - width, side="left"))
