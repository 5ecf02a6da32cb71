"""Read a few rows of a run of any length, without reading the rest of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.record import layout
from seismograd.record.entry_files import EntryFiles
from seismograd.record.recorded_files import open_file
from seismograd.record.recovery import IntactPart
from seismograd.record.replay import Replay
from seismograd.record.segment import Segment
from seismograd.schema import (
    AnyArray,
    FloatArray,
    IntArray,
    Optimizer,
    RowBatch,
    Site,
    State,
    Statistic,
)

_CHUNK = 2**18  # steps


@dataclass(frozen=True)
class RowReader:
    """Reads rows near a position. `columns` returns a segment's positions among the run's
    parameters; `sites` may be fewer than events refer to.
    """

    entries: EntryFiles
    whole: IntactPart
    statistics: Sequence[Statistic]
    columns: Callable[[Segment], Sequence[int]]
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]

    def steps(self, start: int, stop: int) -> AnyArray:
        """Return the steps of these rows  # (stop - start,) STEP_DTYPE."""
        return self.entries.read(layout.STEPS, start, stop)

    def blocks(self, start: int, stop: int) -> Iterator[RowBatch]:
        """Return these rows, in one block for each set of parameters."""
        return Replay(
            self.entries, self.whole, self.statistics, self.sites, self.optimizers
        ).blocks(max(1, stop - start), start, stop)

    def row_of(self, iteration: int) -> int:
        """Return the last row that is not after this iteration; 0 when all are."""
        low, high = 0, self.whole.num_rows
        while high - low > 1:
            middle = (low + high) // 2
            if int(self.steps(middle, middle + 1)["iteration"][0]) <= iteration:
                low = middle
            else:
                high = middle
        return low

    def sample_rows(self, start: int, stop: int) -> IntArray:
        """Return the sampled rows of the run between these."""
        found = [np.empty(0, np.int64)]
        for segment, first, end in self.whole.spans():
            if first < stop and start < end:
                rows = segment.sample_rows(min(stop, end))
                found.append(rows[rows >= start])
        return np.concatenate(found)

    def samples(self, name: str, rows: IntArray, positions: Sequence[int]) -> FloatArray:
        """Return a sampled statistic at sampled rows of some parameters of the run; NaN: no
        gradient or not measured  # (S, P) or (S, P, W).
        """
        statistic = next(each for each in self.statistics if each.name == name)
        shape = (len(rows), len(positions), statistic.width)[: 2 + (statistic.width > 1)]
        values = np.full(shape, np.nan)
        for segment, first, end in self.whole.spans():
            inside = np.flatnonzero((rows >= first) & (rows < end))
            if not len(inside) or statistic not in segment.sampled():
                continue
            place_of = {position: column for column, position in enumerate(self.columns(segment))}
            there = [
                (at, place_of[position])
                for at, position in enumerate(positions)
                if position in place_of
            ]
            at, columns = [at for at, _ in there], [column for _, column in there]
            if not columns:
                continue
            sampled = segment.sample_rows(end)
            first_column, last_column = min(columns), max(columns)
            width = np.dtype(statistic.dtype).itemsize * statistic.width
            for index in inside:
                sample = int(np.searchsorted(sampled, int(rows[index])))
                if segment.damaged_values(name, sample, sample + 1):
                    continue
                part, own = segment.part_of_sample(sample)
                # a memory map would keep other threads waiting for the disk
                file = part.path / layout.statistic_file(statistic)
                with os.fdopen(open_file(file), "rb", buffering=0) as held:
                    held.seek((own * segment.num_columns + first_column) * width)
                    data = held.read((last_column + 1 - first_column) * width)
                numbers: AnyArray = np.frombuffer(data, statistic.dtype).reshape(-1, *shape[2:])
                row = numbers[np.array(columns) - first_column].astype(np.float64)
                place = int(rows[index]) - first
                row[segment.state(place, place + 1)[0][columns] <= State.ABSENT] = np.nan
                values[index, at] = row
        return values

    def elements(self, start: int, stop: int) -> Iterator[tuple[int, FloatArray]]:
        """Yield the elements of these rows, chunk by chunk: the first row of the chunk and the
        numbers  # (rows, E).
        """
        for row in range(start, stop, _CHUNK):
            yield row, self.entries.elements(row, min(row + _CHUNK, stop))
