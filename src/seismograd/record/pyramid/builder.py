"""Builds a pyramid while rows come in: files that only grow, and at most seven waiting cells a level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path

import numpy as np

from seismograd.record.pyramid.cells import FACTOR, Cells, cells_of_rows, join, merge, record_dtype, to_records
from seismograd.schema import AnyArray, StateArray

LEVELS = "levels"


def level_path(directory: Path, level: int) -> Path:
    """The file of a level, from 1, of the pyramid in this directory (a run's or a segment's)."""
    return directory / LEVELS / f"{level}.bin"


class PyramidBuilder:
    """Appends whole cells to the file of each level; a file is made with its first cell.

    What is not yet a whole cell is in no file: who reads takes it from the level below. So a pyramid that was cut anywhere is still right.

    Args:
        directory: of the run or the segment.
        num_columns: numbers a row  # P
        statistics: dtype by name of those that there is a number of in each row and column.
        write: writes all of the bytes to an unbuffered file, or raises `OSError`.
    """

    def __init__(self, directory: Path, num_columns: int, statistics: Mapping[str, str], write: Callable[[FileIO, bytes], None]) -> None:
        self._directory = directory
        self._num_columns = num_columns
        self._statistics = statistics
        self._write = write
        self._waiting: list[Cells | None] = [None]  # by level, those of 0 are rows
        self._files: list[FileIO] = []  # by level, from 1

    def append(self, states: StateArray, values: Mapping[str, AnyArray]) -> None:
        """Take the next rows  # states (R, P), values by name (R, P)."""
        if self._num_columns and len(states):
            self._take(0, cells_of_rows(states, values))

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _take(self, level: int, cells: Cells) -> None:
        if level:
            self._write(self._file(level), to_records(cells, self._dtype(level)).tobytes())
        if level == len(self._waiting):
            self._waiting.append(None)
        waiting = self._waiting[level]
        all_cells = cells if waiting is None else join((waiting, cells))
        num_whole = len(all_cells) // FACTOR * FACTOR
        rest = part(all_cells, num_whole, len(all_cells))
        self._waiting[level] = rest if len(rest) else None
        if num_whole:
            self._take(level + 1, merge(part(all_cells, 0, num_whole)))

    def _dtype(self, level: int) -> np.dtype[np.void]:
        return record_dtype(level, self._num_columns, self._statistics)

    def _file(self, level: int) -> FileIO:
        if level > len(self._files):
            path = level_path(self._directory, level)
            path.parent.mkdir(exist_ok=True)
            self._files.append(path.open("xb", buffering=0))
        return self._files[level - 1]


def part(cells: Cells, start: int, stop: int) -> Cells:
    """Cells `start` to `stop`, as a copy that holds no others in memory."""
    return Cells(cells.counts[start:stop].copy(), {name: extremes[start:stop].copy() for name, extremes in cells.extremes.items()})
