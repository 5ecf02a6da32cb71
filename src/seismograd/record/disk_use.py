"""How much of the disk a record takes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_DEEPEST = 6  # branches/1/segments/0000/raw/000000


def disk_use(run: Path) -> int:
    """Return the bytes of all files of a record, each once though it may have several names; no
    link is followed.
    """
    return _size(os.fspath(run), _DEEPEST, set())


def _size(folder: str, depth: int, shared: set[tuple[int, int]]) -> int:
    num_bytes = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    if status.st_nlink > 1:
                        identity = status.st_dev, status.st_ino
                        if identity in shared:
                            continue
                        shared.add(identity)
                    num_bytes += status.st_size
                elif depth and stat.S_ISDIR(status.st_mode):
                    num_bytes += _size(entry.path, depth - 1, shared)
    except OSError:  # removed meanwhile, or of somebody else
        pass
    return num_bytes
