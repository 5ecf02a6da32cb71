"""Make columns of a picture of the cells of a pyramid, and join those of several.

Shapes: C columns of the picture, N states, P parameters of the run or scalars of a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.record.pyramid.cells import (
    HIGH,
    LAST,
    LOW,
    NUM_EXTREMES,
    NUM_STATES,
    CountArray,
    cell_rows,
    merge,
)
from seismograd.record.pyramid.segment_pyramid import PlacedPyramid
from seismograd.schema import FloatArray, IntArray, State


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


def views_of(
    part: PlacedPyramid,
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
    part: PlacedPyramid, name: str, low: int, high: int, level: int, size: int, columns: IntArray
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


def joined(views: Sequence[PyramidView], num_columns: int) -> PyramidView:
    """Return the columns of the views, one behind another; `num_columns` is P of none."""
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
