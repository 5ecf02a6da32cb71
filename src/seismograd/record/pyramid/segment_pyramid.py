"""Open the pyramid of a segment: what its files hold, and its rows where no file holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.pyramid.cells import FACTOR, pyramid_statistics
from seismograd.record.pyramid.pyramid_reader import Columns, PyramidReader
from seismograd.record.raw_part import RawPart, known_states
from seismograd.record.recorded_files import file_size
from seismograd.record.segment import Segment
from seismograd.schema import AnyArray, IntArray, State, StateArray, Statistic


@dataclass(frozen=True)
class PlacedPyramid:
    """A segment's pyramid and its position in the run: its first row, its columns among those of
    the run.
    """

    pyramid: PyramidReader
    first: int
    stop: int
    positions: IntArray
    segment: Segment | None = None

    def stretches(self, low: int, high: int, level: int) -> Iterator[tuple[int, int, int]]:
        """Yield stretches of rows between two, and the level to read each from: of rows that were
        not kept there are none of level 0.
        """
        if level or self.segment is None or not self.segment.info.rows_per_part:
            yield low, high, level
            return
        for begin, end in self.segment.not_kept(low, high):
            if low < begin:
                yield low, begin, level
            # whole cells: a part begins and ends with one, or with the segment
            yield (
                begin // FACTOR * FACTOR,
                min(-(-end // FACTOR) * FACTOR, self.stop - self.first),
                1,
            )
            low = end
        if low < high:
            yield low, high, level


def open_pyramid(
    segment: Segment, num_rows: int, statistics: Mapping[str, Statistic], in_files: bool
) -> PyramidReader:
    """Return the pyramid of a segment, over its first `num_rows` rows; without `in_files` there is
    none on the disk.
    """

    def read_rows(
        start: int, stop: int, columns: Columns, names: Sequence[str]
    ) -> tuple[StateArray, Mapping[str, AnyArray]]:
        pieces = list(segment.pieces(start, stop))
        if len(pieces) == 1 and pieces[0][1:] == (start, stop):
            part = pieces[0][0]
            return _raw(part, start - part.first, stop - part.first, columns, names)
        # Of rows that were not kept nothing is known here.
        width = len(np.arange(segment.num_columns)[columns])
        states = np.full((stop - start, width), State.NOT_MEASURED, np.uint8)
        values: dict[str, AnyArray] = {
            name: np.zeros((stop - start, width), statistics[name].dtype) for name in names
        }
        for part, begin, end in pieces:
            inside = slice(begin - start, end - start)
            own, numbers = _raw(part, begin - part.first, end - part.first, columns, names)
            states[inside] = own
            for name in names:
                values[name][inside] = numbers[name]
        return states, values

    own = pyramid_statistics(segment.info.statistics, statistics)
    return PyramidReader(
        segment.path if in_files else None,
        num_rows,
        segment.num_columns,
        own,
        read_rows,
        segment.checked,
        bool(num_rows and segment.not_kept(num_rows - 1, num_rows)),
    )


def _raw(
    part: RawPart, start: int, stop: int, columns: Columns, names: Sequence[str]
) -> tuple[StateArray, Mapping[str, AnyArray]]:
    """Return the states and values of rows of a part."""
    width = part.num_columns
    states = known_states(_rows(part.path / layout.STATE, "u1", width, start, stop)[:, columns])
    values: dict[str, AnyArray] = {}
    for name in names:
        statistic = part.statistics[name]
        path = part.path / layout.statistic_file(statistic)
        values[name] = np.asarray(_rows(path, statistic.dtype, width, start, stop)[:, columns])
        for begin, end in part.damaged_values(name, start, stop):
            states[begin - start : end - start] = State.NOT_MEASURED
    for begin, end in part.damaged_states(start, stop):
        states[begin - start : end - start] = State.NOT_MEASURED
    return states, values


def _rows(path: Path, dtype: str, width: int, start: int, stop: int) -> AnyArray:
    row_bytes = np.dtype(dtype).itemsize * width
    if stop <= start or not 0 < stop * row_bytes <= (file_size(path) or 0):
        return layout.read_held_rows(path, np.dtype(dtype), start, stop, width)
    return np.memmap(path, dtype, "r", start * row_bytes, (stop - start, width))
