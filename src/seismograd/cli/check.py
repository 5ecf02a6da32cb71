"""`seismograd check`: run the rules over a whole record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.i18n import mark
from seismograd.settings.project_file import IgnoreOption, SelectOption, read_settings
from seismograd.views.formats.format_names import DIAGNOSIS_FORMAT_NAMES, as_metavar


def check(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help=mark("The directory of a recorded run."))
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar=as_metavar(DIAGNOSIS_FORMAT_NAMES),
            help=mark("Output format (default: text)."),
        ),
    ] = "text",
    select: SelectOption = None,
    ignore: IgnoreOption = None,
) -> int:
    """Report what is wrong in a recorded run; return 1 when that is an error."""
    from seismograd.cli.terminal import output
    from seismograd.diagnosis.selected_rules import selected_rules
    from seismograd.diagnosis.verdict import judge
    from seismograd.record.reader import open_run
    from seismograd.views.formats import format_list
    from seismograd.views.values import short_path

    selection = read_settings().selection(select, ignore)
    view = format_list.find_format(format_list.DIAGNOSIS_FORMATS, form)
    recorded = open_run(run)
    output.print_condition(recorded)
    found = judge(recorded, selected_rules(selection))
    output.answer(view.render(found))
    output.suggest(
        f"seismograd explain {found.findings[0].code}"
        if found.findings
        else f"seismograd show {short_path(recorded.path)}"
    )
    return 1 if found.has_error else 0
