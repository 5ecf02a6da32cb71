"""`seismograd top`: follow a run in the terminal, live."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.cli.fetched_runs import keep_fetching
from seismograd.i18n import mark


def top(
    run: RunArgument = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help=mark("Print once and exit. This is always so when the output is not a terminal."),
        ),
    ] = False,
) -> None:
    """Follow a run in the terminal."""
    from seismograd.cli.terminal import output
    from seismograd.views.top.live_screen import follow, is_terminal, print_once

    path = chosen_run(run)
    if run is not None:
        keep_fetching(run)
    if once or not is_terminal():
        print_once(path, output.console())
    else:
        follow(path, output.console())
