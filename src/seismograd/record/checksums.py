"""Checksums of what is appended to the files of a record, so that a flipped bit or a tail of zeros
is not shown as numbers.

Beside the files lies a log, `checks.bin`: one entry for each batch, with what the batch appended to
each of the files: the end, the size and the checksum of these bytes. The log of the run covers
`steps.bin` and is written before it, so the rows behind the last entry never count.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.record.append_file import AppendFile

CHECKS = "checks.bin"

_FOLD = 509  # prime, so that pages of the disk that change places change the sums

Record = npt.NDArray[Any]


def checksum(data: bytes | memoryview) -> int:
    """Return the CRC-32 of the data, of which whole stretches of 509 little-endian 64-bit words are
    added up word by word before: the CRC alone takes longer than the writing.
    """
    view = memoryview(data)
    num_folded = len(view) // (8 * _FOLD)
    if num_folded < 2:
        return zlib.crc32(view)
    words = np.frombuffer(view, "<u8", num_folded * _FOLD).reshape(num_folded, _FOLD)
    sums = np.add.reduce(words, axis=0, dtype=np.uint64)
    return zlib.crc32(view[num_folded * 8 * _FOLD :], zlib.crc32(sums.astype("<u8", copy=False)))


def log_dtype(num_files: int) -> np.dtype[np.void]:
    """Return the dtype of an entry: for each file the bytes up to the end of the batch, those of
    the batch, and their checksum; `check` is the checksum of the entry before it.
    """
    return np.dtype(
        [
            ("end", "<i8", (num_files,)),
            ("size", "<u4", (num_files,)),
            ("crc", "<u4", (num_files,)),
            ("check", "<u4"),
        ]
    )


def entry_check(entries: Record) -> npt.NDArray[np.uint32]:
    """Return what the field `check` of each of the entries must be."""
    size = entries.dtype.itemsize
    data = np.ascontiguousarray(entries).reshape(-1).view(np.uint8).data
    return np.array(
        [zlib.crc32(data[start : start + size - 4]) for start in range(0, len(data), size)],
        np.uint32,
    )


class ChecksumWriter:
    """Writes the log of some files: `add` for what is appended, then `commit`.

    Args:
        directory: of the files.
        names: of the files, in the order of the log's columns.
        ends: of a log that is there and goes on: the bytes of each file up to its end.

    Raises:
        OSError: it exists, or cannot be created.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], ends: Sequence[int] | None = None
    ) -> None:
        self._column = {name: column for column, name in enumerate(names)}
        # of the entry to come; numbers of Python, in which few are changed the quickest
        self._ends = [0] * len(names) if ends is None else list(ends)
        self._sizes, self._crcs = [0] * len(names), [0] * len(names)
        self._packed = Struct(f"<{len(names)}q{2 * len(names)}I")  # as `log_dtype`, but for `check`
        self._file = AppendFile(directory / CHECKS, ends is not None)

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Count bytes that are appended to a file, once for each entry of the log."""
        column = self._column[name]
        assert not self._sizes[column], name
        self._ends[column] += len(data)
        self._sizes[column] = len(data)
        self._crcs[column] = checksum(data)

    def commit(self) -> None:
        """Append the entry of everything added since the last one."""
        entry = self._packed.pack(*self._ends, *self._sizes, *self._crcs)
        self._file.write(entry + zlib.crc32(entry).to_bytes(4, "little"))
        self._sizes, self._crcs = [0] * len(self._sizes), [0] * len(self._crcs)

    def sync(self) -> None:
        """Wait until the log is on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the log."""
        self._file.close()


class CheckedFile(AppendFile):
    """A file without a buffer whose checksums go into a log; see `AppendFile`.

    Raises:
        OSError: it exists, or cannot be created.
    """

    def __init__(
        self, directory: Path, name: str, checks: ChecksumWriter, goes_on: bool = False
    ) -> None:
        super().__init__(directory / name, goes_on)
        self._name, self._checks = name, checks

    def write(self, data: bytes | memoryview) -> None:
        """Write all of it; see `AppendFile.write`."""
        if len(data):
            super().write(data)
            self._checks.add(self._name, data)
