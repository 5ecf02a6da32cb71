"""`seismograd report`: write a run into one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.i18n import mark, translate


def report(
    run: RunArgument = None,
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
    path = chosen_run(run)
    recorded = open_run(path)
    output.print_condition(recorded)
    size = write_report(replace(open_source(recorded), going_on=is_going_on(path)), out)
    output.answer(
        translate("wrote {path} ({size} kB)").format(
            path=short_path(out.resolve()), size=count(max(1, round(size / 1000)))
        )
    )
    if out.suffix.lower() == ".html":
        output.suggest(f"python -m webbrowser -t {out.resolve().as_uri()}")
    else:
        output.suggest(output.next_page(recorded.path))
