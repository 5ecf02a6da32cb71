"""How much is measured."""

from __future__ import annotations

from seismograd.errors import SeismogradError
from seismograd.i18n import say

LIGHT, NORMAL = "light", "normal"
LEVELS = (LIGHT, NORMAL)


def check_level(level: str) -> str:
    """The level, if it is one.

    Raises:
        SeismogradError: it is not.
    """
    if level not in LEVELS:
        raise SeismogradError(say("{level} is not a level", level=repr(level)), say("use one of {levels}", levels=", ".join(LEVELS)))
    return level
