"""`seismograd report`: write a run into one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.i18n import mark, translate


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help=mark("The directory of a recorded run."))
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=mark(
                "The file to write (default: report.html). The suffix .html, .md or .json selects "
                "the format."
            ),
        ),
    ] = Path("report.html"),
) -> None:
    """Write a run into one file that opens without a network."""
    from dataclasses import replace

    from seismograd.cli.terminal import output
    from seismograd.record.reader import open_run
    from seismograd.record.run_activity import is_going_on
    from seismograd.views.page_api.run_source import open_source
    from seismograd.views.report.report_formats import find_report_format, write_report
    from seismograd.views.values import count, short_path

    find_report_format(out)
    recorded = open_run(run)
    output.print_condition(recorded)
    size = write_report(replace(open_source(recorded), going_on=is_going_on(run)), out)
    output.answer(
        translate("wrote {path} ({size} kB)").format(
            path=short_path(out.resolve()), size=count(max(1, round(size / 1000)))
        )
    )
    output.suggest(f"seismograd view {short_path(recorded.path)}")
