"""Build a pyramid while rows come in: files that only grow, and few waiting cells per level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.checksums import CheckedFile, ChecksumWriter
from seismograd.record.pyramid.cells import (
    FACTOR,
    PyramidCells,
    cells_of_eights,
    cells_of_rows,
    join,
    merge,
    part_of,
    record_dtype,
    to_records,
)
from seismograd.schema import AnyArray, StateArray

_PIECE_BYTES = 2**15


class PyramidBuilder:
    """Appends whole cells to the file of each level; a file is created with its first cell.

    An incomplete cell is in no file: readers take it from the level below. So a pyramid that was
    cut anywhere is still right. Cells above the first level are held until there are some
    kilobytes of them, since each piece that is written has a checksum that its readers compare.

    Args:
        directory: of the run or the segment.
        num_columns: numbers per row  # P
        statistics: dtype by name of those with one number per row and column.
        checks: the log of the checksums of this directory.
    """

    def __init__(
        self,
        directory: Path,
        num_columns: int,
        statistics: Mapping[str, str],
        checks: ChecksumWriter,
    ) -> None:
        self._directory = directory
        self._num_columns = num_columns
        self._statistics = statistics
        self._checks = checks
        self._rows: tuple[StateArray, Mapping[str, AnyArray]] | None = None  # waiting cells
        self._waiting: list[PyramidCells | None] = []  # by level, from 1
        self._dtypes: list[np.dtype[np.void]] = []  # by level, from 1, as is the next
        self._files: list[CheckedFile] = []
        self._held: list[list[bytes]] = []  # by level, from 1: what goes into its file

    def go_on(
        self,
        num_rows: int,
        cells: Callable[[int, int, int], PyramidCells],
        rows: Callable[[int, int], tuple[StateArray, Mapping[str, AnyArray]]],
    ) -> None:
        """Go on with files that are there, behind so many rows; before anything is appended.
        `cells` returns those of a level that summarize rows from one to another, `rows` the states
        and the values of rows.
        """
        num_cells, size = num_rows // FACTOR, FACTOR
        while num_cells and len(self._files) < layout.MAX_LEVEL:
            level = len(self._files) + 1
            path = layout.level_path(self._directory, level)
            self._begin_level(level, goes_on=True)
            num_there = path.stat().st_size // self._dtypes[-1].itemsize
            if num_there < num_cells:  # those that were held when the process was killed
                lost = cells(level, num_there * size, num_cells * size)
                self._held[-1].append(to_records(lost, self._dtypes[-1]).tobytes())
            first = num_cells // FACTOR * FACTOR
            if first < num_cells:
                waiting = cells(level, first * size, num_cells * size)
                self._waiting[-1] = part_of(waiting, 0, len(waiting))
            num_cells, size = num_cells // FACTOR, size * FACTOR
        if num_rows % FACTOR:
            states, values = rows(num_rows // FACTOR * FACTOR, num_rows)
            self._rows = states.copy(), {name: each.copy() for name, each in values.items()}

    def append(self, states: StateArray, values: Mapping[str, AnyArray]) -> None:
        """Append the next rows  # states (R, P), values by name (R, P)."""
        if not self._num_columns or not len(states):
            return
        if self._rows is not None:
            waiting_states, waiting_values = self._rows
            states = np.concatenate([waiting_states, states])
            values = {
                name: np.concatenate([waiting_values[name], each]) for name, each in values.items()
            }
        num_whole = len(states) // FACTOR * FACTOR
        if num_whole:
            self._take(
                1,
                cells_of_eights(
                    states[:num_whole], {name: each[:num_whole] for name, each in values.items()}
                ),
            )
        rest = (
            states[num_whole:].copy(),
            {name: each[num_whole:].copy() for name, each in values.items()},
        )
        self._rows = rest if len(states) > num_whole else None

    def finish(self) -> None:
        """Append the rows that are no whole cell to the first level, as a cell of fewer: the rows
        themselves will not be kept. Nothing can be appended after that.
        """
        if self._rows is not None:
            cell = merge(cells_of_rows(*self._rows))
            if not self._files:
                self._begin_level(1)
            self._files[0].write(to_records(cell, self._dtypes[0]).tobytes())
            self._rows = None

    def flush(self) -> None:
        """Write what is held, at the end."""
        for level in range(1, len(self._files) + 1):
            self._write(level)

    def sync(self) -> None:
        """Wait until the files are on the disk."""
        for file in self._files:
            file.sync()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _take(self, level: int, cells: PyramidCells) -> None:
        if level > len(self._files):
            self._begin_level(level)
        held = self._held[level - 1]
        held.append(to_records(cells, self._dtypes[level - 1]).tobytes())
        # Those of the first level are written at once: no other level has what they have, and their
        # rows may not be kept.
        if level == 1 or sum(map(len, held)) >= _PIECE_BYTES:
            self._write(level)
        waiting = self._waiting[level - 1]
        all_cells = cells if waiting is None else join((waiting, cells))
        num_whole = len(all_cells) // FACTOR * FACTOR
        self._waiting[level - 1] = (
            part_of(all_cells, num_whole, len(all_cells)) if len(all_cells) > num_whole else None
        )
        if num_whole and level < layout.MAX_LEVEL:
            whole = (
                all_cells.counts[:num_whole],
                {name: each[:num_whole] for name, each in all_cells.extremes.items()},
            )
            self._take(level + 1, merge(PyramidCells(*whole)))

    def _write(self, level: int) -> None:
        held = self._held[level - 1]
        if held:
            self._files[level - 1].write(b"".join(held))
            held.clear()

    def _begin_level(self, level: int, goes_on: bool = False) -> None:
        (self._directory / layout.LEVELS).mkdir(exist_ok=True)
        file = CheckedFile(self._directory, layout.level_file(level), self._checks, goes_on)
        self._files.append(file)
        self._dtypes.append(record_dtype(level, self._num_columns, self._statistics))
        self._waiting.append(None)
        self._held.append([])
