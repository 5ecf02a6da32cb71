"""`seismograd export`: write a table of a run to a file that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.i18n import mark, say


def export(
    run: RunArgument = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=mark("The file to write: .parquet, .arrow or .csv, which selects the format."),
        ),
    ] = Path("gradients.parquet"),
    table: Annotated[
        str,
        typer.Option(
            "--table",
            metavar="gradients|steps|events",
            help=mark(
                "The table to write (default: gradients, a row for each step and parameter)."
            ),
        ),
    ] = "gradients",
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="GLOB",
            help=mark("Only parameters whose names match, such as 'fc1.*'. Repeatable."),
        ),
    ] = None,
    steps: Annotated[
        str,
        typer.Option(
            "--steps",
            metavar="FIRST:STOP",
            help=mark("Only these steps, as a slice: 100:200, :1000 or -500: (default: all)."),
        ),
    ] = ":",
    level: Annotated[
        int,
        typer.Option(
            "--level",
            metavar="K",
            help=mark("Summarise 8^K steps in one row of the gradients (default: 0, every step)."),
        ),
    ] = 0,
) -> None:
    """Write a table of a run, block by block, so that a run of any length fits."""
    from seismograd.cli.terminal import output
    from seismograd.cli.terminal.export_progress import counted
    from seismograd.record.reader import open_run
    from seismograd.record.tables.table_files import check_target, parse_steps, write_table
    from seismograd.views.values import count, short_path

    check_target(out)
    chosen = parse_steps(steps)
    recorded = open_run(chosen_run(run))
    output.print_condition(recorded)
    wanted = recorded.table(table, params=param or (), steps=chosen, level=level)
    rows = write_table(wanted, out, counted)
    output.answer(
        say(
            "wrote {path} ({rows} {num:row|rows})",
            path=short_path(out.resolve()),
            rows=count(rows),
            num=rows,
        ).render()
    )
