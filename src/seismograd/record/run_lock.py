"""Keep a second process from writing into a record.

The lock belongs to the process, not to the descriptor: it ends with the process however that ends,
a forked child does not hold it, and on a shared file system other machines see it.
"""

from __future__ import annotations

import os
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record import layout
from seismograd.record.append_file import AppendFile

_held: dict[tuple[int, int], int] = {}  # which process holds the lock of a file


class RunLock:
    """The right to write into the directory of a record, until `close`.

    Raises:
        SeismogradError: it is being written already.
        OSError: the directory cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._key = (-1, -1)
        if (path / layout.LOCK).exists():
            # First, because closing it again would give up a lock that this process holds.
            status = (path / layout.LOCK).stat()
            if _held.get((status.st_dev, status.st_ino)) == os.getpid():
                raise _being_written(path)
        self._file = AppendFile(path / layout.LOCK, goes_on=True)
        if not self._file.lock():
            self._file.close()
            raise _being_written(path)
        status = (path / layout.LOCK).stat()
        self._key = (status.st_dev, status.st_ino)
        _held[self._key] = os.getpid()

    def close(self) -> None:
        """Give up the lock."""
        _held.pop(self._key, None)
        self._file.close()


def _being_written(path: Path) -> SeismogradError:
    return SeismogradError(
        say("{path} is still being written by another process", path=str(path)),
        say("wait for its end, or record anew with --out DIR"),
    )
