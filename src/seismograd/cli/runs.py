"""`seismograd runs`: list the recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.fetched_runs import fetched_runs
from seismograd.cli.terminal.format_option import FormatOption, is_json
from seismograd.i18n import mark


def runs(
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL",
            help=mark(
                "The directory to search, or the URL of a folder at a place (default: runs/)."
            ),
        ),
    ] = "runs",
    form: FormatOption = "text",
) -> None:
    """List the recorded runs in a directory, newest first."""
    from seismograd.cli.terminal import output
    from seismograd.views.run_list import as_json, find_runs, render
    from seismograd.views.values import short_path

    in_json = is_json(form)
    listed = find_runs(fetched_runs(directory) or Path(directory))
    output.answer(as_json(listed) if in_json else render(listed))
    newest = next((each for each in listed if each.run is not None), None)
    if newest is not None:
        output.suggest(f"seismograd check {short_path(newest.path)}")
