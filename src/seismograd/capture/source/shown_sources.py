"""The source of a file by the name that it is shown by: a short one, which may be that of another
file where the program was begun.
"""

from __future__ import annotations

import linecache

_files: dict[str, str] = {}


def remember(shown: str, file: str) -> None:
    """Note which file is shown by this name."""
    _files[shown] = file


def source_of(shown: str) -> str:
    """Return the source of the file that is shown by this name; empty where it cannot be read."""
    return "".join(linecache.getlines(_files.get(shown, shown)))
