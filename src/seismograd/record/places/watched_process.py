"""Whether a process of this machine is still the one that it was."""

from __future__ import annotations

from pathlib import Path

from seismograd.record.process_signal import answers

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
        return None if answers(process) is False else ""


def is_at_work(process: int, start: str) -> bool:
    """Return whether it has not ended, and no other one has got its number."""
    return start_of(process) == start
