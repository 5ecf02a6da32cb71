"""`seismograd check`: the rules over a whole record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.settings import IgnoreOption, SelectOption, read_settings
from seismograd.i18n import mark

FORMATS = "text|json|github|sarif|junit"


def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=mark("The directory of a recorded run."))],
    form: Annotated[str, typer.Option("--format", metavar=FORMATS, help=mark("The form of the answer; text unless given."))] = "text",
    select: SelectOption = None,
    ignore: IgnoreOption = None,
) -> int:
    """Say what is wrong in a recorded run; 1 when that is an error."""
    from seismograd.record.reader import open_run
    from seismograd.rules.chosen import chosen
    from seismograd.rules.engine import diagnose
    from seismograd.views import forms, output
    from seismograd.views.diagnosis import verdict
    from seismograd.views.values import short_path

    choice = read_settings().choice(select, ignore)
    view = forms.find_view(forms.DIAGNOSIS_VIEWS, form)
    recorded = open_run(run)
    output.tell_condition(recorded)
    diagnosis = diagnose(recorded.blocks(), chosen(choice), recorded.notes, recorded.facts, recorded.info.fact_kinds)
    found = verdict(recorded, diagnosis.findings(), diagnosis.statuses())
    output.answer(view.render(found))
    output.suggest(f"seismograd explain {found.findings[0].code}" if found.findings else f"seismograd show {short_path(recorded.path)}")
    return 1 if found.has_error else 0
