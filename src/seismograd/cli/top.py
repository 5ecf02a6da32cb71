"""`seismograd top`: follow a run in the terminal, live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.i18n import mark


def top(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            help=mark("The directory of a run (default: the newest one in runs/)."),
            show_default=False,
        ),
    ] = None,
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
    from seismograd.views.run_list import find_runs
    from seismograd.views.top.live_screen import follow, is_terminal, print_once

    path = (
        run
        if run is not None
        else next(
            (each.path for each in find_runs(Path("runs")) if each.run is not None), Path("runs")
        )
    )
    if once or not is_terminal():
        print_once(path, output.console())
    else:
        follow(path, output.console())
