"""The measurement levels."""

from __future__ import annotations

from seismograd.errors import SeismogradError
from seismograd.i18n import say

LIGHT, NORMAL, DEEP = "light", "normal", "deep"
LEVELS = (LIGHT, NORMAL, DEEP)

_SKETCH_EVERY = {LIGHT: 0, NORMAL: 100, DEEP: 10}  # steps of an optimizer


def sketch_every(level: str, every: int = 1) -> int:
    """Return at which multiple of its steps the gradients of an optimizer are sketched, 0 for
    none, where they are measured at every so many.
    """
    return -(-_SKETCH_EVERY[level] // every) * every


def check_every(every: int, guard: bool = False) -> int:
    """Return after how many steps gradients are measured if it is valid.

    Raises:
        SeismogradError: it is not a positive number, or the guard could not judge every update.
    """
    if type(every) is not int or every < 1:
        raise SeismogradError(
            say("{every} is not a valid number of steps", every=repr(every)),
            say("use a whole number from 1 on, such as 10"),
        )
    if guard and every > 1:
        raise SeismogradError(
            say("the guard judges every update, so no step can be left out of the measurements"),
            say("use either guard or every"),
        )
    return every


def check_level(level: str) -> str:
    """Return the level if it is valid.

    Raises:
        SeismogradError: it is not.
    """
    if level not in LEVELS:
        raise SeismogradError(
            say("{level} is not a valid level", level=repr(level)),
            say("use one of: {levels}", levels=", ".join(LEVELS)),
        )
    return level


def check_budget(share: float | None) -> float | None:
    """Return the share of wall time if it is valid; `None` is the default.

    Raises:
        SeismogradError: it is not between 0 and 1.
    """
    if share is not None and not 0 < share <= 1:
        raise SeismogradError(
            say("{share} is not a valid share of the time", share=share),
            say("use a number between 0 and 1, such as 0.02"),
        )
    return share


def is_on(option: str, text: str) -> bool:
    """Return whether the value of an option is `on`.

    Raises:
        SeismogradError: it is neither `on` nor `off`.
    """
    if text not in ("on", "off"):
        raise SeismogradError(
            say("{option} is on or off, not {text}", option=option, text=repr(text)),
            say("use one of: {levels}", levels="on, off"),
        )
    return text == "on"
