"""Replay a recorded run as blocks: the same data, cut elsewhere, that sinks and rules saw while it
ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from seismograd.record import layout
from seismograd.record.checked_ranges import Stretch, outside
from seismograd.record.entry_files import EntryFiles
from seismograd.record.recovery import IntactPart
from seismograd.record.segment import Segment
from seismograd.schema import AnyArray, Optimizer, RowBatch, Site, State, Statistic

_CHUNK_BYTES = 16 * 2**20  # rows read at once, however small the blocks are


@dataclass(frozen=True, slots=True)
class Replay:
    """The source of the blocks: the whole part of a run, and what the blocks share."""

    entries: EntryFiles
    whole: IntactPart
    statistics: Sequence[Statistic]
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]

    def blocks(self, size: int, start: int, stop: int) -> Iterator[RowBatch]:
        """Yield rows `start` to `stop` in blocks of up to `size`, none of which spans two
        segments. Of rows that are damaged all but the iteration is not measured.
        """
        for segment, first, last in self._stretches(size, start, stop):
            yield from self._read(segment, first, last).split(size)

    def whole_blocks(self, size: int, start: int, stop: int) -> Iterator[RowBatch]:
        """Yield the blocks without the rows of which anything is damaged."""
        for segment, first, last in self._stretches(size, start, stop):
            for begin, end in outside(self._damaged(segment, first, last), first, last):
                yield from self._read(segment, begin, end).split(size)

    def _stretches(self, size: int, start: int, stop: int) -> Iterator[tuple[Segment, int, int]]:
        """Yield what to read at once."""
        for segment, first, end in self.whole.spans():
            span_start, span_stop = max(first, start), min(end, stop)
            row_bytes = (
                sum(np.dtype(each.dtype).itemsize for each in self.statistics if not each.sampled)
                * segment.num_columns
            )
            chunk = size * max(1, _CHUNK_BYTES // (max(row_bytes, 1) * size))
            borders = [span_start, *segment.changed_rows(span_start, span_stop), span_stop]
            for begin, upto in pairwise(borders):
                for row in range(begin, upto, chunk):
                    yield segment, row, min(row + chunk, upto)

    def _damaged(self, segment: Segment, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows of the run in which something is damaged or not kept."""
        first = segment.info.first_row
        return [
            *self.entries.damaged(layout.STEPS, start, stop),
            *(
                (begin + first, end + first)
                for begin, end in segment.unknown_rows(start - first, stop - first)
            ),
        ]

    def _read(self, segment: Segment, start: int, stop: int) -> RowBatch:
        """Return rows `start` to `stop` of the run, all of this segment, as one batch."""
        first = segment.info.first_row
        parameters = segment.parameters_at(start)
        num = len(parameters)
        sample_rows = segment.sample_rows(stop)
        from_sample, to_sample = np.searchsorted(sample_rows, (start, stop)).tolist()
        samples = segment.whole_samples(from_sample, to_sample)
        state = segment.state(start - first, stop - first)[:, :num]
        for begin, end in self._damaged(segment, start, stop):
            state[begin - start : end - start] = State.NOT_MEASURED
        return RowBatch(
            parameters=parameters,
            steps=self.entries.read(layout.STEPS, start, stop),
            state=state,
            values={
                name: segment.values(name, start - first, stop - first)[:, :num]
                for name in segment.info.statistics
            },
            sample_rows=sample_rows[samples] - start,
            samples={
                each.name: segment.values(each.name, from_sample, to_sample)[
                    samples - from_sample, :num
                ]
                for each in segment.sampled()
            },
            events=self._listed(layout.EVENTS, start, stop),
            elements=self.entries.elements(start, stop),
            sites=self.sites,
            optimizers=self.optimizers,
            ranks=self._listed(layout.RANKS, start, stop),
            pairs=self._listed(layout.PAIRS, start, stop),
        )

    def _listed(self, name: str, start: int, stop: int) -> AnyArray:
        # A damaged one must not point beyond what the file holds, nor back.
        ends = np.clip(self.entries.ends(name, start - 1, stop), 0, self.whole.num_entries[name])
        ends = np.maximum.accumulate(ends)
        return self.entries.read(name, int(ends[0]), int(ends[-1]))
