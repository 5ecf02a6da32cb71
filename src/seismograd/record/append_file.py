"""Append to a file of a record, and to no other, or replace a document whole.

A script that starts afresh, as a daemon does, may close descriptors that it did not open. The
number of ours then stands for whatever it opens next, and rows would go into its checkpoint. Ours
is opened once more.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_FLAGS = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class AppendFile:
    """A new file, without a buffer, or with `goes_on` one that may be there already.

    Raises:
        OSError: it exists, or cannot be created.
    """

    _descriptor = -1

    def __init__(self, path: Path, goes_on: bool = False) -> None:
        self._path = path
        only = getattr(os, "O_NOFOLLOW", 0) if goes_on else os.O_EXCL
        self._descriptor = os.open(path, _FLAGS | os.O_CREAT | only, 0o666)
        self._identity = _identity(self._descriptor)

    def write(self, data: bytes | memoryview) -> None:
        """Write all of it: a system call may take only a part, as it does when the disk is nearly
        full.

        Raises:
            OSError: the disk rejects it, or the descriptor was closed from elsewhere and the file
                is no longer there.
        """
        if not self._is_ours():
            self._open_again()
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Wait until the file is on the disk.

        Raises:
            OSError: as `write`.
        """
        if not self._is_ours():
            self._open_again()
        os.fsync(self._descriptor)

    def lock(self) -> bool:
        """Lock the file for this process, until it is closed; return whether no other one has it.
        Where there are no locks nobody has one.
        """
        if sys.platform == "win32":
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def close(self) -> None:
        """Close the file; nothing happens when it is closed."""
        if self._is_ours():
            os.close(self._descriptor)
        self._descriptor = -1

    def __del__(self) -> None:
        self.close()

    def _open_again(self) -> None:
        """Open the file once more, for the script has closed our descriptor; never another one."""
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        descriptor = os.open(self._path, _FLAGS | getattr(os, "O_NOFOLLOW", 0))
        if _identity(descriptor) != self._identity:
            os.close(descriptor)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._descriptor = descriptor

    def _is_ours(self) -> bool:
        try:
            return self._descriptor >= 0 and _identity(self._descriptor) == self._identity
        except OSError:
            return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def replace_document(path: Path, data: bytes) -> None:
    """Replace a whole document at once: a reader never sees half of it."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)


def sync_file(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk; nothing for a missing one.

    Raises:
        OSError: the disk rejects it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, PermissionError):  # Windows opens no directories
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
