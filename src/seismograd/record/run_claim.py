"""Claim the directory of a run before anything is recorded, so that a run that is killed at once is
a run too, and no other one takes its directory. Loads no NumPy, because it runs before the user's
script.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version

from seismograd.package_info import VERSION
from seismograd.record.process_signal import answers

STARTED = "started.json"
META = "meta.json"
_FORMAT = "seismograd run"


def claim(path: Path, script: str) -> None:
    """Write `started.json` into the directory of a new run: from here on it is a run.

    Raises:
        FileExistsError: another process has claimed the directory.
        OSError: it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "script": script,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "seismograd_version": VERSION,
        "python_version": python_version(),
        "process": os.getpid(),
        "id": os.urandom(8).hex(),  # processes of containers may have the same number
    }
    # escaped: the name of a script may hold bytes that are no text
    data = json.dumps(content, indent=1).encode() + b"\n"
    with (path / STARTED).open("xb", buffering=0) as file:
        try:
            if file.write(data) == len(data):
                return
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                (path / STARTED).unlink()
            raise


def release(path: Path) -> None:
    """Remove the claim and the directory of a run in which there is nothing else: the program ended
    without anything to record.
    """
    if not os.path.lexists(path / META):
        with suppress(OSError):
            (path / STARTED).unlink(missing_ok=True)
            path.rmdir()


def is_starting(path: Path) -> bool:
    """Return whether another process, which is alive, has claimed the directory and recorded
    nothing yet.
    """
    if os.path.lexists(path / META):
        return False
    try:
        process = json.loads((path / STARTED).read_bytes())["process"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(process, int) and process != os.getpid() and answers(process) is True
