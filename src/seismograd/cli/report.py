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
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=mark(
                "The file to write (default: report.html). The suffix .html, .md or .json selects "
                "the format."
            ),
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE",
            help=mark(
                "Write only the seismogram, one trace for each layer, as .svg or .png (which needs "
                "matplotlib); with -o, beside the report."
            ),
        ),
    ] = None,
    include_source: Annotated[
        bool,
        typer.Option(
            "--include-source",
            help=mark("Include the lines of the script that the training loop called."),
        ),
    ] = False,
) -> None:
    """Write a run into one file that opens without a network."""
    from dataclasses import replace

    from seismograd.cli.terminal import output
    from seismograd.record.reader import open_run
    from seismograd.record.run_activity import is_going_on
    from seismograd.views.page_api.run_source import open_source
    from seismograd.views.report.report_formats import find_report_format, write_report
    from seismograd.views.seismogram.picture_file import find_picture_format, write_picture

    target = out or (None if picture else Path("report.html"))
    if target is not None:
        find_report_format(target)
    if picture is not None:
        find_picture_format(picture)
    path = chosen_run(run)
    recorded = open_run(path)
    output.print_condition(recorded)
    source = replace(open_source(recorded), going_on=is_going_on(path), with_source=include_source)
    if target is not None:
        output.answer(_wrote(target, write_report(source, target)))
    if picture is not None:
        output.answer(_wrote(picture, write_picture(source.verdict, picture)))
    if target is not None and target.suffix.lower() == ".html":
        output.suggest(f"python -m webbrowser -t {target.resolve().as_uri()}")
    else:
        output.suggest(output.next_page(recorded.path))


def _wrote(path: Path, size: int) -> str:
    from seismograd.views.values import count, short_path

    return translate("wrote {path} ({size} kB)").format(
        path=short_path(path.resolve()), size=count(max(1, round(size / 1000)))
    )
