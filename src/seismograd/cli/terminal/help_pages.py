"""The pages that `--help` prints: typer reads the command line, the words are ours, in the current
language.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from seismograd.cli.terminal.script_lines import script_line
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate
from seismograd.views.text_layout import cell_width, pad, wrap

_LANGUAGE = ("--lang en|zh", mark("Output language (default: the language of the locale)."))
_HELP = mark("Show this help and exit.")
_WIDEST = 100
_NAMES = 28  # cells for the names of options; longer ones get a line of their own


class TranslatedCommand(TyperCommand):
    """A command whose help page and usage errors are translated."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(_page(ctx.command_path, self))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; return what is left over.

        Raises:
            SeismogradError: an argument is left over that the command does not take.
        """
        permitted, ctx.allow_extra_args = ctx.allow_extra_args, True
        extra = super().parse_args(ctx, args)
        if extra and not permitted:
            raise SeismogradError(
                say(
                    "{command} does not accept {extra}",
                    command=ctx.command_path,
                    extra=" ".join(extra),
                ),
                say("run {command} --help", command=ctx.command_path),
            )
        return extra


class TranslatedGroup(TyperGroup):
    """`seismograd` itself."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(_page(ctx.command_path, self))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of that name.

        Raises:
            SeismogradError: there is none.
        """
        if args[0] not in self.commands:
            fix = script_line(args)
            if fix is not None:
                raise SeismogradError(
                    say("{name} is no command of seismograd", name=args[0]),
                    say("did you mean {line}?", line=fix),
                )
            from difflib import get_close_matches

            nearest = get_close_matches(args[0], self.commands, n=1, cutoff=0.5)
            fix = (
                say("did you mean {name}?", name=nearest[0])
                if nearest
                else say("available commands: {names}", names=", ".join(self.commands))
            )
            raise SeismogradError(say("unknown command {name}", name=repr(args[0])), fix)
        return super().resolve_command(ctx, args)


def _page(path: str, command: TyperCommand | TyperGroup) -> str:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    arguments = [
        param for param in command.params if isinstance(param, TyperArgument) and not param.hidden
    ]
    options = [
        param for param in command.params if isinstance(param, TyperOption) and not param.hidden
    ]
    rows = [(_option_name(option), _words(option.help)) for option in options]
    rows += [(_LANGUAGE[0], translate(_LANGUAGE[1])), ("-h, --help", translate(_HELP))]
    commands = list(command.commands.values()) if isinstance(command, TyperGroup) else []
    operands = [_operand(argument) for argument in arguments] + (
        [translate("COMMAND …")] if commands else []
    )
    lines = [
        translate("Usage: {line}").format(line=" ".join([path, translate("[OPTIONS]"), *operands])),
        "",
        *("  " + line for line in wrap(_words(command.help), width - 2)),
        *_section(
            translate("Commands"),
            [(each.name or "", _words(each.help)) for each in commands],
            width,
        ),
        *_section(
            translate("Arguments"),
            [(argument.metavar or argument.name, _words(argument.help)) for argument in arguments],
            width,
        ),
        *_section(translate("Options"), rows, width),
        *_examples(command.epilog or ""),
    ]
    return "\n".join(lines)


def _words(text: str | None) -> str:
    return translate(text) if text else ""


def _operand(argument: TyperArgument) -> str:
    name = argument.metavar or argument.name
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _option_name(option: TyperOption) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    value = "" if option.is_flag else f" {option.metavar or 'VALUE'}"
    return f"{names}{value}{' …' if option.multiple else ''}"


def _section(title: str, rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    if not rows:
        return
    yield from ("", translate("{label}: ").format(label=title).rstrip())
    column = min(max(cell_width(name) for name, _ in rows), _NAMES)
    for name, text in rows:
        first, *others = wrap(text, width - column - 4) or [""]
        if cell_width(name) > column:
            yield f"  {name}"
            name = ""
        yield f"  {pad(name, column)}  {first}"
        yield from (" " * (column + 4) + line for line in others)


def _examples(epilog: str) -> Iterator[str]:
    if epilog:
        yield from ("", translate("Examples:"), *(f"  {line}" for line in epilog.splitlines()))
