"""How a run is written: what the command line and `watch` say of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from seismograd.errors import SeismogradError
from seismograd.i18n import say


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """`sync_s`: seconds after which what was written must be on the disk, so that it survives a
    power cut; `None` leaves that to the operating system. `max_bytes`: no more steps are recorded
    once the record has this size.
    """

    sync_s: float | None = None
    max_bytes: int | None = None


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


_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)i?B?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")


def parse_size(text: str | None) -> int | None:
    """Return the bytes of a size such as `2GB`, of which a unit is 1024 of the one before.

    Raises:
        SeismogradError: it is not a size above 0.
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    num_bytes = float(found[1]) * 1024 ** _UNITS.index(found[2].upper()) if found else 0.0
    if found is None or num_bytes < 1:
        raise SeismogradError(
            say("--max-size needs a size, not {text}", text=repr(text)), say("for example 2GB")
        )
    return int(num_bytes)
