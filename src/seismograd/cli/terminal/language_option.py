"""`--lang`, which every command takes, before its name or after it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from typer.core import TyperCommand, TyperGroup, TyperOption

from seismograd.errors import SeismogradError
from seismograd.i18n import LANGUAGES, say

OPTION = "--lang"


def split_language(arguments: Sequence[str], group: TyperGroup) -> tuple[str | None, list[str]]:
    """Return the requested language (`None`: not given), and the arguments without it.

    Only our own arguments are parsed: what follows the script of `seismograd run` is the script's.

    Raises:
        SeismogradError: the language is not supported.
    """
    lang: str | None = None
    rest: list[str] = []
    command: TyperCommand | TyperGroup = group
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == OPTION:
            lang = _language(value if equals else next(remaining, ""))
            continue
        rest.append(argument)
        if argument == "--":
            break
        if argument.startswith("-") and len(argument) > 1:
            rest.extend(islice(remaining, 0 if equals else _num_values(command, name)))
        elif command is group:
            found = group.commands.get(argument)
            if not isinstance(found, TyperCommand):
                break
            command = found
        elif command.context_settings.get("allow_interspersed_args") is False:
            break
    return lang, [*rest, *remaining]


def _language(value: str) -> str:
    if value not in LANGUAGES:
        raise SeismogradError(
            say("--lang does not support {value}", value=repr(value)),
            say("use --lang en or --lang zh"),
        )
    return value


def _num_values(command: TyperCommand | TyperGroup, option: str) -> int:
    takes_one = any(
        option in param.opts
        for param in command.params
        if isinstance(param, TyperOption) and not param.is_flag
    )
    return 1 if takes_one else 0
