"""Replay a recorded run as blocks: the same data, cut elsewhere, that sinks and rules saw while it
ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.record import layout
from seismograd.record.entry_files import EntryFiles
from seismograd.record.no_samples import no_samples
from seismograd.record.recovery import IntactPart
from seismograd.record.segment import Segment
from seismograd.schema import AnyArray, IntArray, Optimizer, RowBatch, Site, Statistic

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
        segments.
        """
        for segment, first, end in self.whole.spans():
            span_start, span_stop = max(first, start), min(end, stop)
            row_bytes = (
                sum(np.dtype(each.dtype).itemsize for each in self.statistics if not each.sampled)
                * segment.num_parameters
            )
            chunk = size * max(1, _CHUNK_BYTES // (max(row_bytes, 1) * size))
            for row in range(span_start, span_stop, chunk):
                yield from self._pieces(segment, row, min(row + chunk, span_stop), size)

    def _pieces(self, segment: Segment, start: int, stop: int, size: int) -> Iterator[RowBatch]:
        chunk = self._read(segment, start, stop)
        # with the previous one
        ends = {name: self.entries.ends(name, start - 1, stop) for name in layout.ENDS}
        for row in range(0, stop - start, size):
            yield _piece(chunk, row, min(row + size, stop - start), ends)

    def _read(self, segment: Segment, start: int, stop: int) -> RowBatch:
        """Return rows `start` to `stop` of the run, all of this segment, as one block."""
        first = segment.info.first_row
        sample_rows = segment.sample_rows(stop)
        from_sample, to_sample = np.searchsorted(sample_rows, (start, stop)).tolist()
        return RowBatch(
            parameters=segment.info.parameters,
            steps=self.entries.read(layout.STEPS, start, stop),
            state=segment.state(start - first, stop - first),
            values={
                name: segment.values(name, start - first, stop - first)
                for name in segment.info.statistics
            },
            sample_rows=sample_rows[from_sample:to_sample] - start,
            samples={
                each.name: segment.values(each.name, from_sample, to_sample)
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
        ends = self.entries.ends(name, start - 1, stop)
        return self.entries.read(name, int(ends[0]), int(ends[-1]))


def _piece(block: RowBatch, start: int, stop: int, ends: Mapping[str, IntArray]) -> RowBatch:
    """Return rows `start` to `stop` of a block whose row r has the entries of the run from ends[r]
    to ends[r + 1].
    """
    from_sample, to_sample = np.searchsorted(block.sample_rows, (start, stop)).tolist()
    return RowBatch(
        parameters=block.parameters,
        steps=block.steps[start:stop],
        state=block.state[start:stop],
        values={name: values[start:stop] for name, values in block.values.items()},
        sample_rows=block.sample_rows[from_sample:to_sample] - start,
        samples={name: values[from_sample:to_sample] for name, values in block.samples.items()}
        if from_sample < to_sample
        else no_samples(len(block.parameters)),
        events=_of_rows(block.events, ends[layout.EVENTS], start, stop),
        elements=block.elements[start:stop],
        sites=block.sites,
        optimizers=block.optimizers,
        ranks=_of_rows(block.ranks, ends[layout.RANKS], start, stop),
        pairs=_of_rows(block.pairs, ends[layout.PAIRS], start, stop),
    )


def _of_rows(entries: AnyArray, ends: IntArray, start: int, stop: int) -> AnyArray:
    return entries[ends[start] - ends[0] : ends[stop] - ends[0]]
