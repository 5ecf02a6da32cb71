"""Files with the messages of processes that could not reach rank 0: what they would have sent.

Each message has its kind, its length and the CRC-32 of both and of itself before it. What the
messages say is a matter of those who train together; here they are bytes.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from seismograd.record.append_file import AppendFile
from seismograd.record.recorded_files import file_size, open_file, require_directory

REPORTS = "reports"
MAX_MESSAGE_BYTES = 2**31
_HEAD = struct.Struct("<BQI")
_NAME = re.compile(r"rank-\d{1,7}\.bin", re.ASCII)


class ReportFile:
    """The messages of one process, appended to a file in a record.

    Args:
        run: the directory of the record.
        rank: whose messages they are.
        max_bytes: no more is written where the file would become larger.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, run: Path, rank: int, max_bytes: int | None = None) -> None:
        folder = run / REPORTS
        folder.mkdir(exist_ok=True)
        self._path = folder / f"rank-{rank}.bin"
        self._file = AppendFile(self._path, goes_on=True)
        self._num_bytes = file_size(self._path) or 0
        self._max_bytes = max_bytes

    def write(self, kind: int, payload: bytes) -> None:
        """Append a message, at once.

        Raises:
            OSError: the disk rejects it.
        """
        size = _HEAD.size + len(payload)
        if self._max_bytes is not None and self._num_bytes + size > self._max_bytes:
            return
        head = _HEAD.pack(kind, len(payload), _checksum(kind, payload))
        self._file.write(head + payload)
        self._num_bytes += size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file, and the folder when it is empty."""
        self._file.close()
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message, and where it is in its file."""

    kind: int
    start: int
    payload: bytes


def report_files(run: Path) -> tuple[Path, ...]:
    """Return the files of messages in a record.

    Raises:
        SeismogradError: their folder is a link or a file.
    """
    folder = run / REPORTS
    if not require_directory(folder):
        return ()
    return tuple(sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)))


def read_messages(path: Path) -> Iterator[KeptMessage | None]:
    """Yield the messages of a file; `None` at the end when what follows is damaged or not whole.

    Raises:
        SeismogradError: it is not a regular file.
    """
    size, start = file_size(path) or 0, 0
    with os.fdopen(open_file(path), "rb") as file:
        while start < size:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                yield None
                return
            kind, length, checksum = _HEAD.unpack(head)
            start += _HEAD.size
            payload = b"" if length > min(MAX_MESSAGE_BYTES, size - start) else file.read(length)
            if len(payload) < length or checksum != _checksum(kind, payload):
                yield None
                return
            yield KeptMessage(kind, start, payload)
            start += length


def _checksum(kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<BQ", kind, len(payload))))
