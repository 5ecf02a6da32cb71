"""Whether a process of this machine is still the one that it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_STATE, _START = 0, 19  # fields of /proc/PID/stat behind the name
_ENDED = ("Z", "X")


def start_of(process: int) -> str | None:
    """Return when a process was started, in some unit; empty where the system does not say, `None`
    when it has ended, whether or not anybody has taken notice.
    """
    try:
        status = Path(f"/proc/{process}/stat").read_text(errors="replace")
        fields = status.rpartition(")")[2].split()
        return None if fields[_STATE] in _ENDED else fields[_START]
    except (OSError, IndexError):
        return "" if _answers(process) else None


def is_at_work(process: int, start: str) -> bool:
    """Return whether it has not ended, and no other one has got its number."""
    return start_of(process) == start


def _answers(process: int) -> bool:
    if sys.platform == "win32":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # another user's
    except (OSError, OverflowError):
        return False
    return process > 0
