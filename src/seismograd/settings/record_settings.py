"""How a run is written: what the command line and `watch` say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seismograd.errors import SeismogradError
from seismograd.i18n import say


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """`sync_s`: seconds after which what was written must be on the disk, so that it survives a
    power cut; `None` leaves that to the operating system.
    """

    sync_s: float | None = None


def check_sync(seconds: float | None) -> float | None:
    """Return the seconds between two waits for the disk.

    Raises:
        SeismogradError: they are not a positive number.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise SeismogradError(
            say("--sync needs a number of seconds above 0, not {value}", value=seconds),
            say("for example 30"),
        )
    return seconds
