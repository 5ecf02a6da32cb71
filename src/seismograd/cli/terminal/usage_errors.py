"""Describe errors in a command line, in one line and in the current language."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from typer import TyperException as TyperException

from seismograd.errors import SeismogradError
from seismograd.i18n import say


def usage_error(error: TyperException) -> SeismogradError:
    """Return the same error in our words.

    typer keeps its error classes private, so they are distinguished by name; an unknown one keeps
    typer's own words.
    """
    given: Any = error
    context = getattr(given, "ctx", None)
    path = context.command_path if context is not None else "seismograd"
    fix = say("run {command} --help", command=path)
    match type(error).__name__:
        case "NoSuchOption" if given.option_name == "-m" and path == "seismograd":
            return SeismogradError(
                say("{command} has no option {option}", command=path, option="-m"),
                say("did you mean {name}?", name="seismograd run -m"),
            )
        case "NoSuchOption":
            near = get_close_matches(
                given.option_name, sorted(given.possibilities or ()), n=1, cutoff=0
            )
            if near:
                fix = say("did you mean {name}?", name=near[0])
            return SeismogradError(
                say("{command} has no option {option}", command=path, option=given.option_name), fix
            )
        case "BadOptionUsage":
            return SeismogradError(say("{option} needs a value", option=given.option_name), fix)
        case "MissingParameter":
            return SeismogradError(
                say("argument {name} is missing", name=given.param.metavar or given.param.name), fix
            )
        case _:
            return SeismogradError(
                say(
                    "{command}: {detail}",
                    command=path,
                    detail=" ".join(error.format_message().split()),
                ),
                fix,
            )


def whole_number(option: str, value: str | None) -> int | None:
    """Return the value of an option that takes an integer.

    Raises:
        SeismogradError: it is not one.
    """
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise SeismogradError(
            say("{option} does not accept {value}", option=option, value=repr(value)),
            say("use an integer"),
        ) from None


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """Return the value of an option that takes one of a few words.

    Raises:
        SeismogradError: it is not one of them.
    """
    if value not in choices:
        raise SeismogradError(
            say("{option} does not accept {value}", option=option, value=repr(value)),
            say("use one of: {choices}", choices=", ".join(choices)),
        )
    return value
