"""Cells of the pyramid: summaries of rows, eight of which merge into one of the next level.

Shapes: R rows, C cells, P columns (parameters, or the scalars of a step), N states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.schema import AnyArray, FloatArray, State, StateArray, Statistic

CountArray = npt.NDArray[Any]  # unsigned or int32: whatever holds the counts
FACTOR = 8  # cells of a level that become one of the next
PYRAMID_STATISTICS = ("grad_norm", "applied_norm", "update_ratio")
NUM_STATES = len(State)
LOW, HIGH, LAST = 0, 1, 2
NUM_EXTREMES = 3
STATES = "states"


@dataclass(frozen=True, slots=True)
class PyramidCells:
    """Consecutive cells: how often each state occurs in them, and the smallest, largest and last
    finite number of each statistic.

    `counts` is (C, N, P), `extremes` by the name of a statistic (C, 3, P): NaN where no row of the
    cell has a finite number.
    """

    counts: CountArray
    extremes: Mapping[str, FloatArray]

    def __len__(self) -> int:
        return len(self.counts)


def cell_rows(level: int) -> int:
    """Return how many rows a cell of this level summarizes; level 0 is the rows themselves."""
    return FACTOR**level


def pyramid_statistics(names: Sequence[str], statistics: Mapping[str, Statistic]) -> dict[str, str]:
    """Return the statistics of a segment that its pyramid has, and their dtypes."""
    return {
        name: statistics[name].dtype
        for name in PYRAMID_STATISTICS
        if name in names and name in statistics
    }


def record_dtype(level: int, num_columns: int, statistics: Mapping[str, str]) -> np.dtype[np.void]:
    """Return the dtype of a cell in the file of its level; `statistics` are the dtypes by name."""
    counter = "<u1" if cell_rows(level) < 2**8 else "<u2" if cell_rows(level) < 2**16 else "<u4"
    extremes = [(name, dtype, (NUM_EXTREMES, num_columns)) for name, dtype in statistics.items()]
    return np.dtype([(STATES, counter, (NUM_STATES, num_columns)), *extremes])


def cells_of_rows(states: StateArray, values: Mapping[str, AnyArray]) -> PyramidCells:
    """Return each row as a cell of its own  # states (R, P), values (R, P) each."""
    counts = (states[:, None, :] == np.arange(NUM_STATES, dtype=np.uint8)[:, None]).view(np.uint8)
    there = states > State.ABSENT
    extremes: dict[str, FloatArray] = {}
    for name, numbers in values.items():
        finite = np.where(there & np.isfinite(numbers), numbers, np.nan).astype(np.float64)
        extremes[name] = np.broadcast_to(
            finite[:, None, :], (len(finite), NUM_EXTREMES, finite.shape[1])
        )
    return PyramidCells(counts, extremes)


def cells_of_eights(states: StateArray, values: Mapping[str, AnyArray]) -> PyramidCells:
    """Return every eight rows, of a multiple of eight, as a cell of level 1  # states (R, P),
    values (R, P) each.
    """
    shape = (len(states) // FACTOR, FACTOR, states.shape[1])
    counts = np.zeros((shape[0], NUM_STATES, shape[2]), np.uint8)
    # nearly always a few of them
    for state in range(int(states.min(initial=NUM_STATES)), int(states.max(initial=0)) + 1):
        np.add.reduce((states == state).view(np.uint8).reshape(shape), axis=1, out=counts[:, state])
    there = states > State.ABSENT
    extremes: dict[str, FloatArray] = {}
    for name, numbers in values.items():
        finite = np.where(there & np.isfinite(numbers), numbers, np.nan).reshape(shape)
        extremes[name] = _merged(finite, finite, finite)
    return PyramidCells(counts, extremes)


def merge(cells: PyramidCells, size: int = FACTOR) -> PyramidCells:
    """Merge every `size` cells into one; the last one may have fewer."""
    if len(cells) == 0 or size == 1:
        return cells
    stop = len(cells) // size * size
    parts = [
        _merge_evenly(cells, start, end, min(size, end - start))
        for start, end in ((0, stop), (stop, len(cells)))
        if start < end
    ]
    return join(parts)


def _merge_evenly(cells: PyramidCells, start: int, stop: int, size: int) -> PyramidCells:
    """Merge every `size` of the cells `start` to `stop` into one."""

    def grouped(values: AnyArray) -> AnyArray:
        return values[start:stop].reshape((stop - start) // size, size, *values.shape[1:])

    counts = np.add.reduce(grouped(cells.counts), axis=1, dtype=np.int32)
    grouped_extremes = {name: grouped(extremes) for name, extremes in cells.extremes.items()}
    return PyramidCells(
        counts,
        {
            name: _merged(each[:, :, LOW], each[:, :, HIGH], each[:, :, LAST])
            for name, each in grouped_extremes.items()
        },
    )


def _merged(low: AnyArray, high: AnyArray, last: AnyArray) -> FloatArray:
    """Return the extremes over the second axis, ignoring NaN  # each (C, cells, P) -> (C, 3, P)."""
    merged = np.empty((len(low), NUM_EXTREMES, low.shape[2]))
    np.fmin.reduce(low, axis=1, out=merged[:, LOW])
    np.fmax.reduce(high, axis=1, out=merged[:, HIGH])
    latest = merged[:, LAST]
    latest[...] = last[:, -1]
    for position in range(last.shape[1] - 2, -1, -1):
        missing = np.isnan(latest)
        if not missing.any():
            break
        np.copyto(latest, last[:, position], where=missing)
    return merged


def part_of(cells: PyramidCells, start: int, stop: int) -> PyramidCells:
    """Return cells `start` to `stop`, as a copy that keeps no others in memory."""
    return PyramidCells(
        cells.counts[start:stop].copy(),
        {name: extremes[start:stop].copy() for name, extremes in cells.extremes.items()},
    )


def join(parts: Sequence[PyramidCells]) -> PyramidCells:
    """Concatenate consecutive cells; there is at least one part."""
    if len(parts) == 1:
        return parts[0]
    return PyramidCells(
        np.concatenate([part.counts for part in parts]),
        {
            name: np.concatenate([part.extremes[name] for part in parts])
            for name in parts[0].extremes
        },
    )


def to_records(cells: PyramidCells, dtype: np.dtype[np.void]) -> AnyArray:
    """Return the cells in the form of a file  # (C,)."""
    records: AnyArray = np.zeros(len(cells), dtype)
    records[STATES] = cells.counts
    for name, extremes in cells.extremes.items():
        records[name] = extremes
    return records
