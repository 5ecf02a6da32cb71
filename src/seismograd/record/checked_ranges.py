"""Compare what the files of a record hold with the checksums in their log."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from itertools import pairwise
from pathlib import Path

import numpy as np

from seismograd.record.checksum_log import opened_log
from seismograd.record.checksums import CHECKS, Record, checksum, entry_check
from seismograd.record.recorded_files import file_size, open_file

_CHUNK = 4096  # entries of the log
_AT_ONCE = 2**16  # bytes of small neighbours that are read at once

Stretch = tuple[int, int]
Checked = tuple[int, int, int]  # a stretch and its checksum

# What was compared in this process, by the state of the file and the stretch with its checksum: a
# page asks again and again. Small neighbours are compared as fast as they would be found here.
_compared: dict[tuple[tuple[int, int, int], Checked], bool] = {}
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
        return self._end(name, ())

    def whole_end(self, name: str, others: Sequence[str]) -> int | None:
        """Return how many bytes of a file the log covers up to the last batch of which it and
        `others` hold everything; `None` without a log. Files that are not there do not count.
        """
        return self._end(name, (name, *others))

    def _end(self, name: str, whole: Sequence[str]) -> int | None:
        """Return where the last batch of which these files hold everything ends in a file."""
        if not self.exists:
            return None
        with opened_log(self.directory, len(self.names)) as log:
            num_batches = len(log)
            for column, each in enumerate(self.names):
                size = file_size(self.directory / each) if each in whole else None
                if size is not None and num_batches and log.end(num_batches - 1, column) > size:
                    num_batches = bisect_right(
                        range(num_batches), size, key=lambda index, at=column: log.end(index, at)
                    )
            for last in range(num_batches - 1, -1, -1):
                for entry in _whole(log.entries(last, last + 1)):
                    return int(entry["end"][self.names.index(name)])
        return 0

    def damaged(self, name: str, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of bytes between `start` and `stop` of a file that are not what was
        written, or of which nobody knows, because their entry of the log is damaged. Those that the
        file ends within, because it was cut there, are among them: what is left of them cannot be
        compared, and may be zeros that a disk put in their place.
        """
        if stop <= start or name not in self.names:
            return []
        path = self.directory / name
        # The log before the size of the file: a writer that is at work writes it after the file.
        # `steps.bin` comes after its log, but of that no rows are asked for that it did not hold.
        stretches, unknown = self._stretches(self.names.index(name), start, stop)
        size = file_size(path) or 0
        whole = [each for each in stretches if each[1] <= size]
        found = [each[:2] for each in stretches if each[1] > size]
        if whole:
            with os.fdopen(open_file(path), "rb", buffering=0) as file:
                found = [*(each[:2] for each in _differing(file, whole)), *found]
        found += unknown
        if found:
            self.known.setdefault(name, set()).update(found)
        return found

    def entries(self) -> Iterator[Record]:
        """Yield the whole entries of the log, some at a time."""
        with opened_log(self.directory, len(self.names)) as log:
            for start in range(0, len(log), _CHUNK):
                yield _whole(log.entries(start, start + _CHUNK))

    def num_damaged_entries(self) -> int:
        """Return how many entries of the log are damaged themselves."""
        with opened_log(self.directory, len(self.names)) as log:
            return len(log) - sum(map(len, self.entries()))

    def _stretches(self, column: int, start: int, stop: int) -> tuple[list[Checked], list[Stretch]]:
        """Return the stretches that have a checksum, and those before others that have none."""
        with opened_log(self.directory, len(self.names)) as log:
            numbers = range(len(log))
            first = bisect_right(numbers, start, key=lambda index: log.end(index, column))
            last = bisect_left(numbers, stop, lo=first, key=lambda index: log.end(index, column))
            some = log.entries(first, last + 1)
        appended = some if last >= len(log) else some[some["size"][:, column] > 0]
        if (appended["check"] == entry_check(appended)).all():
            stretches = _of_column(appended, column, start, stop)
            if _is_gapless(stretches, start, None if last >= len(log) else stop):
                return stretches, []
        # A damaged entry may have led astray, or hide what was appended.
        known: list[Checked] = []
        end = 0
        for part in self.entries():
            known += _of_column(part, column, start, stop)
            end = max(end, int(part["end"][:, column].max(initial=0)))
        return known, list(outside([each[:2] for each in known], start, min(stop, end)))


def _of_column(entries: Record, column: int, start: int, stop: int) -> list[Checked]:
    """Return what of a file between `start` and `stop` the entries are about."""
    end = entries["end"][:, column]
    size = entries["size"][:, column].astype(np.int64)
    held = np.flatnonzero((size > 0) & (end > start) & (end - size < stop))
    end, crc = end[held], entries["crc"][held, column]
    return list(zip((end - size[held]).tolist(), end.tolist(), crc.tolist(), strict=True))


def _whole(entries: Record) -> Record:
    """Return the entries that are what was written."""
    return entries[entries["check"] == entry_check(entries)]


def _differing(file: FileIO, stretches: Sequence[Checked]) -> Iterator[Checked]:
    """Yield the stretches of a file that are not what was written."""
    status = os.fstat(file.fileno())
    state = status.st_dev, status.st_ino, status.st_mtime_ns
    for group in _neighbours(stretches):
        key = state, group[0]
        if len(group) == 1 and (same := _compared.get(key)) is not None:
            yield from () if same else group
            continue
        offset = group[0][0]
        file.seek(offset)
        data = memoryview(file.read(group[-1][1] - offset))
        differing = [
            each for each in group if checksum(data[each[0] - offset : each[1] - offset]) != each[2]
        ]
        if len(group) == 1:
            if len(_compared) >= _MAX_COMPARED:
                _compared.clear()
            _compared[key] = not differing
        yield from differing


def _neighbours(stretches: Sequence[Checked]) -> Iterator[list[Checked]]:
    """Yield the stretches in groups without gaps that can be read at once."""
    group: list[Checked] = []
    for each in stretches:
        if group and (each[0] != group[-1][1] or each[1] - group[0][0] > _AT_ONCE):
            yield group
            group = []
        group.append(each)
    if group:
        yield group


def _is_gapless(stretches: Sequence[Checked], start: int, stop: int | None) -> bool:
    """Return whether the stretches hold everything between; without `stop` up to where they end."""
    if not stretches or stretches[0][0] > start:
        return False
    if stop is not None and stretches[-1][1] < stop:
        return False
    return all(each[1] == following[0] for each, following in pairwise(stretches))


def outside(stretches: Sequence[Stretch], start: int, stop: int) -> Iterator[Stretch]:
    """Yield what is left of `start` to `stop` without some stretches, in any order."""
    for begin, end in sorted(stretches):
        if start < begin:
            yield start, min(begin, stop)
        start = max(start, end)
    if start < stop:
        yield start, stop
