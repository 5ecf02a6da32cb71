"""`seismograd compare`: compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.terminal.usage_errors import one_of
from seismograd.i18n import mark, translate


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="RUN", help=mark("The directory of a recorded run."))
    ],
    second: Annotated[
        Path, typer.Argument(metavar="OTHER", help=mark("The run to compare it with."))
    ],
    form: Annotated[
        str,
        typer.Option("--format", metavar="text|json", help=mark("Output format (default: text).")),
    ] = "text",
) -> None:
    """Compare two recorded runs."""
    from seismograd.cli.terminal import output
    from seismograd.record.reader import open_run
    from seismograd.views import run_comparison
    from seismograd.views.values import short_path

    one_of("--format", form, ("text", "json"))
    if first.resolve() == second.resolve():
        output.print_note(translate("both arguments name the same run"))
    found = run_comparison.compare_runs(open_run(first), open_run(second))
    output.answer(
        run_comparison.as_json(found) if form == "json" else run_comparison.ComparisonText(found)
    )
    output.suggest(f"seismograd view {short_path(found.first.run.path.parent)}")
