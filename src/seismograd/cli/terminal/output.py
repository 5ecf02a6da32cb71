"""Direct output: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.views.run_condition import condition, note_line
from seismograd.views.values import short_path

_FILE_WIDTH = 160
"""How wide a table may be that goes into a file or a pipe."""


def console(stream: TextIO | None = None) -> Console:
    """Return a console on a stream (stdout unless given), as wide as the terminal; no text is
    interpreted as markup.
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
    """Print on stderr what a reader should know about the record itself: what was torn off, what
    failed, what is missing.
    """
    for line in condition(run):
        console(sys.stderr).print(line)


def print_note(text: str) -> None:
    """Print a note on stderr that belongs beside the result."""
    console(sys.stderr).print(note_line(text))


def suggest(command: str) -> None:
    """Print the next command to type, on stderr; only where stdout is a terminal, so that nothing
    is added to a pipe or a log.
    """
    if sys.stdout.isatty():
        console(sys.stderr).print(next_line(command), soft_wrap=True)


def next_page(run: Path, home: Path | None = None) -> str:
    """Return the command that shows everything of a run: on a page, live where the server is
    installed.
    """
    is_installed = all(find_spec(name) for name in ("starlette", "uvicorn", "sse_starlette"))
    return f"seismograd {'view' if is_installed else 'report'} {short_path(run, home)}"


def next_line(command: str) -> Text:
    """Return the line that names the next command."""
    before, _, after = translate("next: {command}").partition("{command}")
    return Text.assemble((before, "dim"), command, (after, "dim"))
