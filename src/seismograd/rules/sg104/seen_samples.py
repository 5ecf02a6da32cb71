"""Count the samples that the losses were computed from, between the counts of dead rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import integers, numbers
from seismograd.schema import EventKind, RowBatch


@dataclass(slots=True)
class SeenSamples:
    """The samples since the last sampled row; a loss of an unknown number counts as very many."""

    _num: float = 0.0

    def until_each_sample(self, block: RowBatch) -> list[float]:
        """Read the next iterations; return how many there were up to each sampled row."""
        is_backward = block.events["kind"] == EventKind.BACKWARD
        count = np.nan_to_num(numbers(block.events, "count")[is_backward], nan=1e9)
        iterations = integers(block.steps, "iteration")[block.sample_rows]
        ends = np.searchsorted(
            integers(block.events, "iteration")[is_backward], iterations, side="right"
        )
        # which of the stretches that end there, or the last one, each belongs to
        stretch = np.searchsorted(ends, np.arange(len(count)), side="right")
        seen: list[float] = np.bincount(stretch, count, len(ends) + 1).tolist()
        seen[0] += self._num
        self._num = seen.pop()
        return seen
