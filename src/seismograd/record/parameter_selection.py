"""Choose parameters of a run by name, with `*` and `?`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.schema import Parameter


def find_parameters(parameters: Sequence[Parameter], patterns: Sequence[str]) -> tuple[int, ...]:
    """Return the columns of the parameters that match any of the patterns, by name or alias; all
    when there is no pattern.

    Raises:
        SeismogradError: a pattern matches nothing.
    """
    chosen: set[int] = set()
    for pattern in patterns:
        matched = {
            column
            for column, each in enumerate(parameters)
            if any(fnmatchcase(name, pattern) for name in (each.name, *each.aliases))
        }
        if not matched:
            raise SeismogradError(
                say("no parameter matches {pattern}", pattern=repr(pattern)),
                nearest_names(parameters, pattern),
            )
        chosen |= matched
    return tuple(sorted(chosen)) if patterns else tuple(range(len(parameters)))


def nearest_names(parameters: Sequence[Parameter], wanted: str) -> Message:
    """Return the parameters whose names are closest to the requested one, as a hint."""
    names = [each.name for each in parameters]
    near = (
        get_close_matches(wanted.replace("*", "").replace("?", ""), names, n=3, cutoff=0.4)
        or names[:3]
    )
    return (
        say("the closest names are {names}", names=", ".join(near))
        if near
        else say("the run recorded no parameters")
    )
