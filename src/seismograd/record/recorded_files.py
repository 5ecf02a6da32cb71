"""Open the files of a record, which may be damaged or come from somebody else.

Only regular files inside of the run are read: a link could show a file of the reader's, and a pipe
or a device would keep the reader waiting, or never end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say

MAX_DOCUMENT_BYTES = 2**28  # a document of 10,000 parameters has 3 MB
MAX_LINE_BYTES = 2**26

# Windows knows neither links of this kind nor pipes in a directory
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


def file_size(path: Path) -> int | None:
    """Return the bytes of a file of a record; `None` when there is no such file.

    Raises:
        SeismogradError: it is not a regular file, or cannot be looked at.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise irregular(path)
    return status.st_size


def require_directory(path: Path) -> bool:
    """Return whether there is a directory of a record.

    Raises:
        SeismogradError: it is a link or a file.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISDIR(mode):
        raise irregular(path)
    return True


def open_file(path: Path) -> int:
    """Return a descriptor of a file of a record, for reading; the caller closes it.

    Raises:
        FileNotFoundError: there is none.
        SeismogradError: it is not a regular file, or cannot be opened.
    """
    if file_size(path) is None:
        raise FileNotFoundError(path)
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    # What was looked at by name may have been replaced since.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise irregular(path)
    return descriptor


def read_document(path: Path) -> bytes:
    """Return all bytes of a small file of a record.

    Raises:
        FileNotFoundError: there is none.
        SeismogradError: it is not a regular file, or larger than any that seismograd writes.
    """
    with os.fdopen(open_file(path), "rb") as file:
        content = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise _unreadable(path, f"> {MAX_DOCUMENT_BYTES} bytes")
    return content


def read_whole_lines(path: Path) -> Iterator[bytes | None]:
    """Yield the whole lines of a file of a record, without their ends; `None` at the end when
    something follows that is not a whole line, or longer than any that seismograd writes.

    Raises:
        FileNotFoundError: there is none.
        SeismogradError: it is not a regular file.
    """
    with os.fdopen(open_file(path), "rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            if not line.endswith(b"\n"):
                yield None
                return
            yield line[:-1]


def irregular(path: Path) -> SeismogradError:
    """Return the error about something in a record that is not a regular file or directory."""
    return SeismogradError(
        say(
            "{path} is not a regular file or directory, so the record is not read",
            path=str(path),
        ),
        say("replace links by copies of the files"),
    )


def _unreadable(path: Path, reason: str) -> SeismogradError:
    return SeismogradError(say("cannot read {path}: {reason}", path=str(path), reason=reason))
