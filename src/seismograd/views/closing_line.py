"""The line with which a recording that a script itself began ends."""

from __future__ import annotations

from pathlib import Path

from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.diagnosis.training_course import training_course
from seismograd.diagnosis.verdict import known_verdict, recorded_verdict
from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.settings.rule_selection import RuleSelection
from seismograd.views.guarded_updates import num_guarded
from seismograd.views.values import count, sentences, short_path
from seismograd.views.verdict_words import headline

_MOST = 3


def closing_line(run: Run | None, path: Path, selection: RuleSelection) -> str:
    """Return where the record is, what was found, how the training went, and what to type next."""
    here = short_path(path)
    if run is None or not (run.num_rows or run.findings):
        return translate("no optimizer step was recorded in {run}").format(run=here)
    verdict = known_verdict(run, selected_rules(selection)) or recorded_verdict(run)
    num = num_guarded(run)
    found = [f"{each.code} {each.name}" for each in verdict.findings]
    return sentences(
        (
            translate("record: {path} (steps: {steps}, parameters: {parameters})").format(
                path=here, steps=run.num_rows, parameters=len(run.parameters)
            ),
            headline(verdict, training_course(run)),
            translate("updates left out: {number}").format(number=count(num)) if num else "",
            ", ".join(found[:_MOST]) + (", …" if len(found) > _MOST else ""),
            translate("next: {command}").format(command=f"seismograd check {here}"),
        )
    )
