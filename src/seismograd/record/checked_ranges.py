"""Compare what the files of a record hold with the checksums in their log."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seismograd.record.checksums import CHECKS, Record, checksum, entry_check, log_dtype
from seismograd.record.recorded_files import file_size, open_file

_CHUNK = 4096  # entries of the log

Stretch = tuple[int, int]

# What was compared in this process, by the state of the file, the stretch and its checksum: a page
# asks again and again.
_compared: dict[tuple[int, ...], bool] = {}
_MAX_COMPARED = 2**17


@dataclass(frozen=True)
class CheckedRanges:
    """The log of the files in a directory, `names` in its order. A record of before there were
    checksums has none: then nothing is damaged as far as is known. `known`: the damage that was
    found by now, by file.
    """

    directory: Path
    names: Sequence[str]
    known: dict[str, set[Stretch]] = field(default_factory=dict[str, set[Stretch]])

    @property
    def _log(self) -> Record:
        """Return the log as it is now. It is mapped for each question: a mapping that is kept holds
        the file open for as long as the run, which lies in a cycle of references.
        """
        path = self.directory / CHECKS
        dtype = log_dtype(len(self.names))
        num = (file_size(path) or 0) // dtype.itemsize
        if not num:
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, "r", shape=(num,))

    def damaged_rows(self, name: str, row_bytes: int, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows between `start` and `stop` that hold damaged bytes."""
        if not row_bytes:
            return []
        return [
            (max(start, begin // row_bytes), min(stop, -(-end // row_bytes)))
            for begin, end in self.damaged(name, start * row_bytes, stop * row_bytes)
        ]

    @property
    def exists(self) -> bool:
        """Return whether there is a log."""
        return file_size(self.directory / CHECKS) is not None

    def end(self, name: str) -> int | None:
        """Return how many bytes of a file the log covers; `None` without a log."""
        if not self.exists:
            return None
        log = self._log
        for last in range(len(log) - 1, -1, -1):
            if self._is_whole(last):
                return int(log["end"][last, self._column(name)])
        return 0

    def damaged(self, name: str, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of bytes between `start` and `stop` of a file that are not what was
        written. What ends within a stretch, because the file was cut there, cannot be compared.
        """
        if stop <= start or name not in self.names or not len(self._log):
            return []
        path = self.directory / name
        size = file_size(path) or 0
        stretches = [
            (begin, end, crc)
            for begin, end, crc in self._stretches(self._column(name), start, stop)
            if end <= size
        ]
        if not stretches:
            return []
        found: list[Stretch] = []
        with os.fdopen(open_file(path), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            state = status.st_dev, status.st_ino, status.st_mtime_ns
            for begin, end, crc in stretches:
                key = (*state, begin, end, crc)
                same = _compared.get(key)
                if same is None:
                    file.seek(begin)
                    same = checksum(file.read(end - begin)) == crc
                    if len(_compared) >= _MAX_COMPARED:
                        _compared.clear()
                    _compared[key] = same
                if not same:
                    found.append((begin, end))
                    self.known.setdefault(name, set()).add((begin, end))
        return found

    def entries(self) -> Iterator[Record]:
        """Yield the whole entries of the log, some at a time."""
        log = self._log
        for start in range(0, len(log), _CHUNK):
            some = np.array(log[start : start + _CHUNK])
            yield some[some["check"] == entry_check(some)]

    def num_damaged_entries(self) -> int:
        """Return how many entries of the log are damaged themselves."""
        return len(self._log) - sum(map(len, self.entries()))

    def _stretches(self, column: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        log = self._log
        ends = log["end"][:, column]
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left")) + 1
        some: Any = np.array(log[first:last])
        whole = some[some["check"] == entry_check(some)]
        ordered = len(whole) == len(some) and bool((np.diff(some["end"][:, column]) >= 0).all())
        parts = [whole] if ordered and len(some) else self.entries()
        for part in parts:
            end = part["end"][:, column]
            size = part["size"][:, column].astype(np.int64)
            for index in np.flatnonzero((size > 0) & (end > start) & (end - size < stop)):
                yield (
                    int(end[index] - size[index]),
                    int(end[index]),
                    int(part["crc"][index, column]),
                )

    def _is_whole(self, index: int) -> bool:
        some = np.array(self._log[index : index + 1])
        return bool((some["check"] == entry_check(some)).all())

    def _column(self, name: str) -> int:
        return self.names.index(name)


def outside(stretches: Sequence[Stretch], start: int, stop: int) -> Iterator[Stretch]:
    """Yield what is left of `start` to `stop` without some stretches, in any order."""
    for begin, end in sorted(stretches):
        if start < begin:
            yield start, min(begin, stop)
        start = max(start, end)
    if start < stop:
        yield start, stop
