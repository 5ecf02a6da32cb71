"""Where answers go: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.views.run_condition import _conditions, _note

_FILE_WIDTH = 160
"""How wide a table may be that goes into a file or a pipe."""


def console(stream: TextIO | None = None) -> Console:
    """A console on a stream (stdout unless given), as wide as the terminal; nothing in texts is
    taken for markup.
    """
    target = stream or sys.stdout
    piped = not target.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=target,
        highlight=False,
        markup=False,
        emoji=False,
        width=_FILE_WIDTH if piped else None,
    )


def answer(result: RenderableType) -> None:
    """Print a result on stdout; a string exactly as it is."""
    if isinstance(result, str):
        print(result, end="\n" if result else "")
    else:
        console().print(result)


def print_condition(run: Run) -> None:
    """Say on stderr what a reader should know of the record itself: what was torn off, what
    failed, what is missing.
    """
    for text in _conditions(run):
        print_note(text)


def print_note(text: str) -> None:
    """Say something on stderr that belongs beside the result."""
    console(sys.stderr).print(_note(text))


def suggest(command: str) -> None:
    """Name the next command to type, on stderr; only where stdout is a terminal, so that nothing
    is added to what a pipe or a log gets.
    """
    if sys.stdout.isatty():
        console(sys.stderr).print(next_line(command), soft_wrap=True)


def next_line(command: str) -> Text:
    """The line that names the next command."""
    before, _, after = translate("next: {command}").partition("{command}")
    return Text.assemble((before, "dim"), command, (after, "dim"))
