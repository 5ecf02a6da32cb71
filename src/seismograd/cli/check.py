"""`seismograd check`: run the rules over a whole record."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.cli.terminal.usage_errors import one_of
from seismograd.i18n import mark
from seismograd.settings.project_file import IgnoreOption, SelectOption, read_settings
from seismograd.views.formats.format_names import (
    DIAGNOSIS_FORMAT_NAMES,
    SEVERITY_NAMES,
    as_metavar,
)


def check(
    run: RunArgument = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar=as_metavar(DIAGNOSIS_FORMAT_NAMES),
            help=mark("Output format (default: text)."),
        ),
    ] = "text",
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on",
            metavar="|".join(reversed(SEVERITY_NAMES)),
            help=mark(
                "Exit with 1 if there is a finding of this severity or a worse one (default: "
                "error). The exit code is 2 when no rule could be evaluated."
            ),
        ),
    ] = "error",
    select: SelectOption = None,
    ignore: IgnoreOption = None,
) -> int:
    """Report what is wrong in a recorded run; return 1 when that is as bad as `fail_on`, and 2 when
    no rule could look.
    """
    from seismograd.cli.terminal import output
    from seismograd.diagnosis.selected_rules import selected_rules
    from seismograd.diagnosis.verdict import judge
    from seismograd.record.reader import open_run
    from seismograd.views.formats import format_list

    one_of("--fail-on", fail_on, SEVERITY_NAMES)
    selection = read_settings().selection(select, ignore)
    view = format_list.find_format(format_list.DIAGNOSIS_FORMATS, form)
    recorded = open_run(chosen_run(run))
    output.print_condition(recorded)
    found = judge(recorded, selected_rules(selection))
    output.answer(view.render(found))
    output.suggest(
        f"seismograd explain {found.findings[0].code}"
        if found.findings
        else output.next_page(recorded.path)
    )
    if found.is_blind:
        return 2
    return 1 if found.is_as_bad_as(fail_on) else 0
