"""`seismograd merge`: bring the records of the processes of one training together."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.chosen_run import chosen_run
from seismograd.cli.completion import recorded_runs
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say
from seismograd.settings.project_file import IgnoreOption, SelectOption, read_settings


def merge(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help=mark(
                "The directory of the run of rank 0, and those of the processes that could not "
                "reach it (…-rank-N)."
            ),
            show_default=False,
            autocompletion=recorded_runs,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help=mark("The directory of the merged run (default: that of rank 0 and -merged)."),
            show_default=False,
        ),
    ] = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
) -> None:
    """Write one record of the parts of a training, with all its ranks."""
    from seismograd.cli.terminal import output
    from seismograd.cli.terminal.export_progress import counted
    from seismograd.diagnosis.selected_rules import selected_rules
    from seismograd.views.values import count, short_path

    if importlib.util.find_spec("torch") is None:
        raise SeismogradError(
            say("merging the records of several processes needs PyTorch, which is not installed"),
            say("pip install torch"),
        )
    from seismograd.merging.merged_record import merge as merge_records

    rules = selected_rules(read_settings().selection(select, ignore))
    merged = merge_records([chosen_run(run) for run in runs], out, rules, counted)
    output.print_condition(merged.run)
    output.answer(
        say(
            "wrote {path} (processes: {ranks}, steps put together: {rows} of {all})",
            path=short_path(merged.run.path),
            ranks=len(merged.ranks),
            rows=count(merged.num_rows),
            all=count(merged.run.num_rows),
        ).render()
    )
    output.suggest(f"seismograd check {short_path(merged.run.path)}")
