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
        backwards = block.events[block.events["kind"] == EventKind.BACKWARD]
        count = np.nan_to_num(numbers(backwards, "count"), nan=1e9)
        iterations = integers(block.steps, "iteration")[block.sample_rows]
        ends = np.searchsorted(integers(backwards, "iteration"), iterations, side="right").tolist()
        starts = [0, *ends]
        seen = [float(count[a:b].sum()) for a, b in zip(starts, ends, strict=False)]
        if seen:
            seen[0] += self._num
            self._num = 0.0
        self._num += float(count[starts[-1] :].sum())
        return seen
