"""The files of a record on the disk, in the order in which they may be sent while it is written.

A row counts once its step is there, which is written last of each batch. So the steps are looked at
first, and sent last: what is at the place holds all that its steps need.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seismograd.record import layout
from seismograd.record.checksums import CHECKS
from seismograd.record.places.stored_names import is_sent

_LAST = (layout.STEPS, layout.END)


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file as it was found."""

    inode: int
    size: int
    modified_ns: int


def found_files(path: Path) -> dict[str, SpoolFile]:
    """Return the regular files of a record by their names, none where it was removed."""
    first = {name: _looked_at(path / name) for name in reversed(_LAST)}
    names = [name for name in _names(path) if name not in first]
    rest = {
        name: _looked_at(path / name) for name in sorted(names, key=sending_order, reverse=True)
    }
    return {name: file for name, file in {**first, **rest}.items() if file is not None}


def sending_order(name: str) -> tuple[int, str]:
    """Return what is later for a file that is sent later, and looked at earlier."""
    if name in _LAST:
        return 3 + _LAST.index(name), name
    last_part = name.rpartition("/")[2]
    if last_part == CHECKS or last_part.endswith("_batches.bin"):  # about what is there by then
        return 2, name
    # What tells that other files were removed is looked at behind those.
    return (0 if last_part == layout.REMOVED else 1), name


def _looked_at(path: Path) -> SpoolFile | None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return SpoolFile(status.st_ino, status.st_size, status.st_mtime_ns)


def _names(path: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(path):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for each in files:
            name = (Path(folder) / each).relative_to(path).as_posix()
            if is_sent(name):
                yield name
