"""View any stretch of a run in about as many columns as a picture has, from the coarsest level that
is fine enough.

Shapes: C columns of the picture, N states, P parameters of the run or scalars of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.entry_files import EntryFiles
from seismograd.record.pyramid.cells import (
    FACTOR,
    HIGH,
    LAST,
    LOW,
    NUM_EXTREMES,
    NUM_STATES,
    PYRAMID_STATISTICS,
    CountArray,
    cell_rows,
    merge,
)
from seismograd.record.pyramid.pyramid_reader import Columns, PyramidReader
from seismograd.record.pyramid.step_scalars import STATISTICS as STEP_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS, STEPS, step_states, step_values
from seismograd.record.raw_part import RawPart, known_states
from seismograd.record.recovery import IntactPart
from seismograd.record.segment import Segment
from seismograd.schema import (
    AnyArray,
    FloatArray,
    IntArray,
    State,
    StateArray,
    Statistic,
)

_MAX_NUMBERS = 2**22  # cells times parameters that one view reads


@dataclass(frozen=True, slots=True)
class PyramidView:
    """Rows `starts[c]` to `stops[c]` of the run as column c: how often each state occurs, and the
    extremes of the finite numbers.

    `counts` is (C, N, P); `low`, `high` and `last` are (C, P), NaN where there is no finite number.
    """

    starts: IntArray
    stops: IntArray
    counts: CountArray
    low: FloatArray
    high: FloatArray
    last: FloatArray

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class _SegmentPyramid:
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


class PyramidLevels:
    """Views of the run in a directory, `None` when it has no pyramid; `columns` returns a segment's
    positions among the run's parameters.

    A run without a pyramid, or a truncated one, gives the same views: what no file holds is
    computed from the rows.
    """

    def __init__(
        self,
        run: Path | None,
        entries: EntryFiles,
        whole: IntactPart,
        statistics: Mapping[str, Statistic],
        columns: Callable[[Segment], Sequence[int]],
        num_parameters: int,
    ) -> None:
        self._entries = entries
        self._num_rows = whole.num_rows
        self._num_parameters = num_parameters
        spans = list(whole.spans())
        self._parts = [
            _SegmentPyramid(
                _segment_pyramid(segment, stop - first, statistics, run is not None),
                first,
                stop,
                np.array(columns(segment), np.int64),
                segment,
            )
            for segment, first, stop in spans
        ]
        self._spans = spans
        pyramid = PyramidReader(
            run,
            whole.num_rows,
            len(STEP_SCALARS),
            STEP_STATISTICS,
            self._read_steps,
            entries.checked,
        )
        self._steps = _SegmentPyramid(pyramid, 0, whole.num_rows, np.arange(len(STEP_SCALARS)))

    def parameters(
        self, name: str, start: int, stop: int, num_columns: int, only: Sequence[int] | None = None
    ) -> PyramidView:
        """Return a statistic of rows `start` to `stop` of all parameters, or `only` of some, in
        about `num_columns` columns.

        The first and the last column may hold a few rows more than requested, because they are
        cells of the pyramid.
        """
        return _joined(
            list(self.stretches(name, start, stop, num_columns, only)),
            self._num_parameters if only is None else len(only),
        )

    def stretches(
        self,
        name: str,
        start: int,
        stop: int,
        num_columns: int,
        only: Sequence[int] | None = None,
        at_once: int | None = None,
    ) -> Iterator[PyramidView]:
        """Yield the same view, at most about `at_once` numbers of it at a time, to bound memory and
        time.
        """
        positions = np.arange(self._num_parameters) if only is None else np.array(only, np.int64)
        # A few parameters of many cost about one page of the file per cell each, so they count as
        # half of all.
        level, size = _scale(
            stop - start, num_columns, max(len(positions), self._num_parameters // 2)
        )
        most = None if at_once is None else max(1, at_once // max(1, len(positions) * size))
        for part in self._parts:
            if part.first < stop and start < part.stop:
                yield from _views(part, name, start, stop, level, size, positions, most)

    def steps(self, start: int, stop: int, num_columns: int) -> PyramidView:
        """Return the scalars of the steps, STEP_SCALARS, in the same form."""
        level, size = _scale(stop - start, num_columns, len(STEP_SCALARS))
        views = (
            list(_views(self._steps, STEPS, start, stop, level, size, self._steps.positions))
            if stop > start
            else []
        )
        return _joined(views, len(STEP_SCALARS))

    def _read_steps(
        self, start: int, stop: int, columns: Columns, _: Sequence[str]
    ) -> tuple[StateArray, Mapping[str, AnyArray]]:
        steps = self._entries.read(layout.STEPS, start, stop)
        bad = np.zeros((len(steps), 1), np.uint8)
        unclear = np.flatnonzero(np.isnan(steps["grad_norm"]))
        if len(unclear):
            bad[self._with_nonfinite(start, unclear)] = State.NONFINITE
        return step_states(steps, bad)[:, columns], {STEPS: step_values(steps)[:, columns]}

    def _with_nonfinite(self, start: int, rows: IntArray) -> IntArray:
        """Return which of these rows, counted from `start`, have a gradient that is not finite."""
        found: list[int] = []
        for segment, first, stop in self._spans:
            inside = rows[(rows + start >= first) & (rows + start < stop)]
            if len(inside):
                low, high = int(inside[0]) + start - first, int(inside[-1]) + start - first + 1
                bad = (segment.state(low, high) == State.NONFINITE).any(axis=1)
                found += [int(row) for row in inside if bad[row + start - first - low]]
        return np.array(found, np.int64)


def pyramid_statistics(names: Sequence[str], statistics: Mapping[str, Statistic]) -> dict[str, str]:
    """Return the statistics of a segment that its pyramid has, and their dtypes."""
    return {
        name: statistics[name].dtype
        for name in PYRAMID_STATISTICS
        if name in names and name in statistics
    }


def _segment_pyramid(
    segment: Segment, num_rows: int, statistics: Mapping[str, Statistic], in_files: bool
) -> PyramidReader:
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
    if stop <= start or not width:
        return np.empty((max(stop - start, 0), width), dtype)
    return np.memmap(
        path, dtype, "r", start * width * np.dtype(dtype).itemsize, (stop - start, width)
    )


def _scale(num_rows: int, num_columns: int, num_parameters: int) -> tuple[int, int]:
    """Return the level, and how many of its cells make a column."""
    wanted = max(1, num_rows // max(1, num_columns))  # rows per column
    level = 0
    while (
        cell_rows(level + 1) <= wanted
        or (num_rows // cell_rows(level) + 2) * num_parameters > _MAX_NUMBERS
    ):
        level += 1
    return level, max(1, round(wanted / cell_rows(level)))


def _views(
    part: _SegmentPyramid,
    name: str,
    start: int,
    stop: int,
    level: int,
    size: int,
    positions: IntArray,
    most: int | None = None,
) -> Iterator[PyramidView]:
    """Yield the view of a part, `most` columns at a time."""
    rows = cell_rows(level)
    low = max(start - part.first, 0) // rows * rows
    high = min(-(-max(stop - part.first, 0) // rows) * rows, part.stop - part.first)
    columns = _positions(part.positions, positions)
    for begin, end, own_level in part.stretches(low, high, level):
        own_size = max(1, size * rows // cell_rows(own_level))
        stretch = most * cell_rows(own_level) * own_size if most else end - begin
        for first in range(begin, end, stretch or 1):
            stop_at = min(first + stretch, end)
            yield _view(part, name, first, stop_at, own_level, own_size, columns)


def _view(
    part: _SegmentPyramid, name: str, low: int, high: int, level: int, size: int, columns: IntArray
) -> PyramidView:
    """Return the view of rows of a part, whole cells of the level; `columns` are the positions of
    the parameters in it, -1 for absent ones.
    """
    rows = cell_rows(level) * size
    num = math.ceil((high - low) / rows)
    starts = part.first + low + np.arange(num, dtype=np.int64) * rows
    stops = np.minimum(starts + rows, part.first + high)
    known = [name] if name in part.pyramid.statistics else []
    if (
        len(columns) == part.pyramid.num_columns
        and known
        and np.array_equal(columns, np.arange(len(columns)))
    ):
        cells = merge(part.pyramid.cells(level, low, high, known), size)
        counts, extremes = cells.counts, cells.extremes[name]
    else:
        there = np.flatnonzero(columns >= 0)
        counts = np.zeros((num, NUM_STATES, len(columns)), np.int32)
        counts[:, State.NOT_MEASURED] = (stops - starts)[:, None]
        extremes = np.full((num, NUM_EXTREMES, len(columns)), np.nan)
        if len(there):
            cells = merge(
                part.pyramid.cells(level, low, high, known, columns[there].tolist()), size
            )
            counts[:, :, there] = cells.counts
            if known:
                extremes[:, :, there] = cells.extremes[name]
    return PyramidView(
        starts, stops, counts, extremes[:, LOW], extremes[:, HIGH], extremes[:, LAST]
    )


def _positions(have: IntArray, wanted: IntArray) -> IntArray:
    """Return the position in `have` of each of `wanted`; -1 for absent ones."""
    position = {int(each): index for index, each in enumerate(have)}
    return np.array([position.get(int(each), -1) for each in wanted], np.int64)


def _joined(views: Sequence[PyramidView], num_columns: int) -> PyramidView:
    if not views:
        none = np.empty(0, np.int64)
        empty = np.empty((0, num_columns))
        return PyramidView(
            none, none, np.empty((0, NUM_STATES, num_columns), np.int32), empty, empty, empty
        )
    if len(views) == 1:
        return views[0]
    return PyramidView(
        np.concatenate([view.starts for view in views]),
        np.concatenate([view.stops for view in views]),
        np.concatenate([view.counts for view in views]),
        np.concatenate([view.low for view in views]),
        np.concatenate([view.high for view in views]),
        np.concatenate([view.last for view in views]),
    )
