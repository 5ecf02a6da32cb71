"""Name the user's files as a record does: as short as they stay unambiguous, and without the home
directory, whose name is nobody else's business.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seismograd.home_directory import HOMES


def script_folder() -> Path | None:
    """Return the folder of the script that the process runs; `None` for none, as in a shell."""
    name: object = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(name).absolute().parent if isinstance(name, str) else None


def shown_path(path: Path, working: Path) -> str:
    """Return the path relative to the folder that the run began in, else to the script's, as far as
    both are within one home or outside of any, else absolute.
    """
    if path.is_relative_to(working) and not _holds_a_home(working):
        return path.relative_to(working).as_posix()
    folder = script_folder()
    if folder is not None and path.is_absolute():
        common = Path(os.path.commonpath((path, folder)))
        if common != Path(common.anchor) and not _holds_a_home(common):
            return Path(os.path.relpath(path, folder)).as_posix()
    return path.as_posix()


def _holds_a_home(folder: Path) -> bool:
    """Return whether a path relative to the folder may name a home directory."""
    return any(folder in home.parents for home in HOMES)
