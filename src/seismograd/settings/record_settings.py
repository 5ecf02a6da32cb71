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
    once the record has this size. `keep_raw`: raw values are kept of so many steps, the last ones,
    and around findings; `None`: of all.
    """

    sync_s: float | None = None
    max_bytes: int | None = None
    keep_raw: int | None = None


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


_KEEP = re.compile(r"raw=(all|\d{1,15})")


def parse_keep(text: str | None) -> int | None:
    """Return of how many steps raw values are kept, from `raw=1000`; `None` for `raw=all`.

    Raises:
        SeismogradError: it is neither.
    """
    found = None if text is None else _KEEP.fullmatch(text.strip())
    if text is not None and (found is None or found[1].strip("0") == ""):
        raise SeismogradError(
            say("--keep needs raw=STEPS or raw=all, not {text}", text=repr(text)),
            say("for example raw=10000"),
        )
    return None if found is None or found[1] == "all" else int(found[1])


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
