"""`seismograd compare`: compare two runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.chosen_run import chosen_run, newest_runs
from seismograd.cli.terminal.format_option import FormatOption, is_json
from seismograd.cli.terminal.usage_errors import whole_number
from seismograd.i18n import mark, translate


def compare(
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help=mark(
                "The directory of a run, or the beginning of its name in runs/ (default: the "
                "newest but one)."
            ),
            show_default=False,
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="[OTHER]",
            help=mark("The run to compare it with (default: the newest)."),
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="N",
            help=mark("Compare the gradients of this step (default: the first that differs)."),
        ),
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Compare two recorded runs: are their gradients the same, or from where on not?"""
    from seismograd.cli.terminal import output
    from seismograd.record.reader import open_run
    from seismograd.views.comparison_json import comparison_to_json
    from seismograd.views.comparison_text import ComparisonText
    from seismograd.views.parity.run_parity import compare_parity
    from seismograd.views.run_comparison import compare_runs
    from seismograd.views.values import short_path

    in_json, number = is_json(form), whole_number("--step", step)
    one, other = _chosen(first, second)
    if one.resolve() == other.resolve():
        output.print_note(translate("both arguments name the same run"))
    runs = open_run(one), open_run(other)
    parity = compare_parity(*runs, step=number)
    found = compare_runs(*runs)
    output.answer(comparison_to_json(found, parity) if in_json else ComparisonText(found, parity))
    output.suggest(f"seismograd view {short_path(found.first.run.path.parent)}")


def _chosen(first: str | None, second: str | None) -> tuple[Path, Path]:
    """Return the two runs: the newest two, or one and the newest, where they were not given."""
    if first is None:
        newest, before = newest_runs(2)
        said = translate("runs: {first} and {second}").format(first=before, second=newest)
        print(said, file=sys.stderr)
        return before, newest
    return chosen_run(first), chosen_run(second)
