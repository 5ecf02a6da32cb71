"""The command line: one file per command, their list in `command_list`, and here the way from
`argv` to an exit code.

Neither this module nor its imports load torch or NumPy: a script may set environment variables
before they load.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup

from seismograd.cli import completion
from seismograd.cli.command_entry import DeferredCommand
from seismograd.cli.command_list import COMMANDS
from seismograd.cli.terminal.character_fallback import any_terminal
from seismograd.cli.terminal.help_pages import TranslatedCommand, TranslatedGroup
from seismograd.cli.terminal.language_option import split_language
from seismograd.cli.terminal.readable_language import holds_chinese, readable_language
from seismograd.cli.terminal.usage_errors import TyperException, usage_error
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate, use_language
from seismograd.package_info import VERSION
from seismograd.printable import printable

TRACEBACK = "SEISMOGRAD_TRACEBACK"
_READERS = (
    "check",
    "compare",
    "export",
    "fsck",
    "merge",
    "report",
    "runs",
    "show",
    "top",
    "upload",
    "view",
    "why",
)

_SUMMARY = mark(
    "A seismograph for gradients: it records the gradients of a PyTorch training run, shows them, "
    "and reports what is wrong."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` without its first word unless given) and return the exit
    code.

    Whatever a command defers (a `DeferredCommand`: the user's script) runs last, when the argument
    parser has returned and nothing of ours is on the stack that could catch what it raises.
    """
    outcome = _read(list(sys.argv[1:] if argv is None else argv))
    return outcome if isinstance(outcome, int) else outcome.execute()


def application() -> TyperGroup:
    """Return the commands as typer's command tree."""
    app = typer.Typer(
        cls=TranslatedGroup,
        help=_SUMMARY,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(
        invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
    )(_seismograd)
    for entry in COMMANDS:
        app.command(
            entry.name,
            cls=TranslatedCommand,
            help=entry.summary,
            epilog="\n".join(entry.examples) or None,
            context_settings=dict(entry.context),
        )(entry.function)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def _seismograd(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help=mark("Print the version."))
    ] = False,
) -> None:
    if version:
        print(f"seismograd {VERSION}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _read(argv: list[str]) -> int | DeferredCommand:
    completion.prepare()
    group = application()
    lang: str | None = None
    arguments: Sequence[str] = argv
    try:
        lang, arguments = split_language(argv, group)
        lang = readable_language(lang, sys.stdout, sys.stderr)
        if lang == "zh" and not holds_chinese(sys.stdout):
            with use_language("en"):  # which it does hold; a report may be wanted in Chinese
                note = say(
                    "the encoding {name} has no Chinese; PYTHONIOENCODING=utf-8 prints it",
                    name=sys.stdout.encoding,
                )
                print(say("seismograd: {line}", line=note).render(), file=sys.stderr)
        if arguments[:1] == ["help"]:  # as git and cargo have it
            arguments = [*arguments[1:2], "--help"]
        with use_language(lang), any_terminal(sys.stdout, sys.stderr):
            outcome = group.main(args=arguments, prog_name="seismograd", standalone_mode=False)
            sys.stdout.flush()
    except SeismogradError as error:
        return _complain(error, lang)
    except TyperException as error:
        return _complain(usage_error(error), lang)
    except BrokenPipeError:
        return _reader_left()
    except Exception as error:
        # Reading a record that is damaged, or made to do harm, may break what reads it.
        if not any(name in arguments for name in _READERS) or os.environ.get(TRACEBACK):
            raise
        return _complain(_broken(error), lang)
    return 0 if outcome is None else outcome


def _broken(error: Exception) -> SeismogradError:
    return SeismogradError(
        say(
            "this command failed: {kind}: {reason}",
            kind=type(error).__name__,
            reason=printable(str(error)[:200]),
        ),
        say(
            "the record is probably damaged; if not, please report this with the traceback that "
            "{variable}=1 shows",
            variable=TRACEBACK,
        ),
    )


def _complain(error: SeismogradError, lang: str | None) -> int:
    with use_language(lang), any_terminal(sys.stderr):
        line = printable(" ".join(error.line().split()))
        print(translate("seismograd: {line}").format(line=line), file=sys.stderr)
    return error.exit_code


def _reader_left() -> int:
    """Handle `seismograd show … | head`, where the reader has what it wanted: keep the interpreter
    from complaining when it flushes at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
