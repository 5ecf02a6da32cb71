"""Read the log of checksums of some files."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np

from seismograd.record.checksums import CHECKS, Record, log_dtype
from seismograd.record.recorded_files import file_size, open_file


class ChecksumLog:
    """The entries of an open log, as many as were there when it was opened. Only those that are
    asked for are read, so a question costs the same in a log of any length.
    """

    def __init__(self, file: FileIO | None, num_files: int) -> None:
        self._file = file
        self._dtype = log_dtype(num_files)
        size = 0 if file is None else os.fstat(file.fileno()).st_size
        self._num = size // self._dtype.itemsize

    def __len__(self) -> int:
        return self._num

    def entries(self, start: int, stop: int) -> Record:
        """Return the entries from `start` to `stop`, fewer where the log ends."""
        size = self._dtype.itemsize
        data = self._read(start * size, (min(stop, self._num) - start) * size)
        return np.frombuffer(data, self._dtype, len(data) // size)

    def end(self, index: int, column: int) -> int:
        """Return how many bytes of a file there were up to the end of an entry."""
        return int.from_bytes(
            self._read(index * self._dtype.itemsize + 8 * column, 8), "little", signed=True
        )

    def _read(self, offset: int, size: int) -> bytes:
        if self._file is None or size <= 0:
            return b""
        self._file.seek(offset)
        return self._file.read(size)


@contextmanager
def opened_log(directory: Path, num_files: int) -> Generator[ChecksumLog]:
    """Open the log in a directory, one without entries where there is none. It is opened for each
    question: a run lies in a cycle of references, and would hold the file open for long.
    """
    path = directory / CHECKS
    if file_size(path) is None:
        yield ChecksumLog(None, num_files)
        return
    with os.fdopen(open_file(path), "rb", buffering=0) as file:
        yield ChecksumLog(file, num_files)
