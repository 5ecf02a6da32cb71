"""Read one pyramid: cells of any level over any rows, from the files as far as they go and from the
level below beyond that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges, outside
from seismograd.record.pyramid.cells import (
    FACTOR,
    STATES,
    PyramidCells,
    cell_rows,
    cells_of_rows,
    join,
    merge,
    part_of,
    record_dtype,
)
from seismograd.record.recorded_files import file_size
from seismograd.schema import AnyArray, StateArray

_CHUNK_NUMBERS = 2**19  # of rows that are read at once
_REMEMBERED_LEVEL = 3

Columns = slice | Sequence[int]
ALL = slice(None)
ReadRows = Callable[[int, int, Columns, Sequence[str]], tuple[StateArray, Mapping[str, AnyArray]]]


@dataclass(frozen=True)
class PyramidReader:
    """The pyramid in a directory (`None`: in none), over the first `num_rows` rows; `checked` has
    the checksums there.

    `read_rows` reads rows themselves: start, stop, columns, statistics.
    """

    directory: Path | None
    num_rows: int
    num_columns: int
    statistics: Mapping[str, str]
    read_rows: ReadRows
    checked: CheckedRanges
    # the last rows were not kept, so the last cell of the first level may have fewer than eight
    ends_in_part_of_a_cell: bool = False
    # by statistic: level 3 of a run that has no pyramid
    _rebuilt: dict[str, PyramidCells] = field(default_factory=dict[str, PyramidCells])

    def cells(
        self, level: int, start: int, stop: int, names: Sequence[str], columns: Columns = ALL
    ) -> PyramidCells:
        """Return the cells over rows `start` (a multiple of the cell's) to `stop`; the last one may
        have fewer rows.
        """
        if level == 0:
            return cells_of_rows(*self.read_rows(start, stop, columns, names))
        rows = cell_rows(level)
        in_file = self._num_in_file(level)
        # the last cell of the file may have fewer rows
        end = in_file if stop >= self.num_rows else min(stop // rows, in_file)
        parts: list[PyramidCells] = []
        if start // rows < end:
            # What is damaged is summed up from the level below.
            for begin, upto in outside(
                self._damaged(level, start // rows, end), start // rows, end
            ):
                if start < begin * rows:
                    parts += self._from_below(level, start, begin * rows, names, columns)
                parts.append(self._from_file(level, begin, upto, names, columns))
                start = min(upto * rows, stop)
        if start < stop:
            parts += self._from_below(level, start, stop, names, columns)
        return join(parts) if parts else self.cells(0, 0, 0, names, columns)

    def _damaged(self, level: int, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the stretches of cells of a file that are not what was written."""
        dtype = record_dtype(level, self.num_columns, self.statistics)
        return self.checked.damaged_rows(layout.level_file(level), dtype.itemsize, start, stop)

    def _num_in_file(self, level: int) -> int:
        if self.directory is None or not self.num_columns or level > layout.MAX_LEVEL:
            return 0
        path = layout.level_path(self.directory, level)
        size = file_size(path) or 0
        # What lies beyond the log has no checksum, and may be of rows whose end is missing.
        logged = self.checked.end(layout.level_file(level))
        size = size if logged is None else min(size, logged)
        dtype = record_dtype(level, self.num_columns, self.statistics)
        num_cells = self.num_rows // cell_rows(level)
        if self.ends_in_part_of_a_cell and level == 1:
            num_cells = -(-self.num_rows // cell_rows(level))
        return min(size // dtype.itemsize, num_cells)

    def _from_file(
        self, level: int, start: int, stop: int, names: Sequence[str], columns: Columns
    ) -> PyramidCells:
        assert self.directory is not None
        dtype = record_dtype(level, self.num_columns, self.statistics)
        cells: AnyArray = np.memmap(
            layout.level_path(self.directory, level),
            dtype,
            "r",
            start * dtype.itemsize,
            (stop - start,),
        )
        # With all columns these are views of the file: only what is used is read.
        return PyramidCells(
            np.asarray(cells[STATES][:, :, columns]),
            {name: np.asarray(cells[name][:, :, columns]) for name in names},
        )

    def _from_below(
        self, level: int, start: int, stop: int, names: Sequence[str], columns: Columns
    ) -> list[PyramidCells]:
        if (
            names
            and level == _REMEMBERED_LEVEL + 1
            and self._num_in_file(_REMEMBERED_LEVEL) == 0
            and stop - start > cell_rows(level)
        ):
            rows = cell_rows(_REMEMBERED_LEVEL)
            return [merge(self._remembered(names, columns, start // rows, -(-stop // rows)))]
        at_once = max(
            cell_rows(level),
            _CHUNK_NUMBERS // max(1, self.num_columns) // cell_rows(level) * cell_rows(level),
        )
        return [
            merge(self.cells(level - 1, row, min(row + at_once, stop), names, columns), FACTOR)
            for row in range(start, stop, at_once)
        ]

    def _remembered(
        self, names: Sequence[str], columns: Columns, start: int, stop: int
    ) -> PyramidCells:
        for name in names:
            if name not in self._rebuilt:
                self._rebuilt[name] = self.cells(_REMEMBERED_LEVEL, 0, self.num_rows, [name])
        kept = [part_of(self._rebuilt[name], start, stop) for name in names]
        return PyramidCells(
            kept[0].counts[:, :, columns],
            {
                name: each.extremes[name][:, :, columns]
                for name, each in zip(names, kept, strict=True)
            },
        )
