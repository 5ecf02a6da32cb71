"""The recorded runs of a directory as a table, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate
from seismograd.record import strict_json
from seismograd.record.disk_use import disk_use
from seismograd.record.reader import Run
from seismograd.record.run_listing import ListedRun, list_runs
from seismograd.schema import SEVERITIES
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.guarded_updates import num_guarded
from seismograd.views.run_condition import end_code, end_word
from seismograd.views.values import (
    NOTHING,
    SEVERITY_STYLES,
    count,
    number,
    sentences,
    severity_word,
    size,
)


def find_runs(directory: Path) -> list[ListedRun]:
    """Return the runs directly inside a directory, the newest first.

    Raises:
        SeismogradError: there is no such directory, or no run in it.
    """
    how_to = say("record one with: seismograd run train.py")
    if not directory.is_dir():
        raise SeismogradError(
            say("directory {directory} does not exist", directory=str(directory)), how_to
        )
    listed = list_runs(directory)
    if not listed:
        raise SeismogradError(
            say("there is no run in {directory}", directory=str(directory)), how_to
        )
    return listed


def render(listed: Sequence[ListedRun]) -> RenderableType:
    """Return one row for each run, and a line for each that cannot be read."""
    runs = [each.run for each in listed if each.run is not None]
    problems = [Text(each.problem.render(), "red") for each in listed if each.run is None]
    table = FittingTable(runs, COLUMNS, LEFT_OUT_FIRST)
    return Group(*([table] if runs else []), *problems)


def as_json(listed: Sequence[ListedRun]) -> str:
    """Return one object for each run; one that cannot be read has a `problem` only."""
    return strict_json.dumps([_as_object(each) for each in listed], indent=2).decode()


def _as_object(listed: ListedRun) -> dict[str, object]:
    run = listed.run
    if run is None:
        return {"run": str(listed.path), "problem": listed.problem.render()}
    severities = [finding.severity for finding in run.findings]
    return {
        "run": str(listed.path),
        "script": run.info.script,
        "created_utc": run.info.created_utc,
        "steps": len(run.steps),
        "parameters": len(run.parameters),
        "last_loss": float(run.steps["loss"][-1]) if len(run.steps) else None,
        "findings": {severity: severities.count(severity) for severity in SEVERITIES},
        "end": end_code(run),
        "guarded": num_guarded(run),
        "bytes": disk_use(run.path),
        "branches": len(run.branches),
    }


def _last_loss(run: Run) -> str:
    return number(float(run.steps["loss"][-1])) if len(run.steps) else NOTHING


def _findings(run: Run) -> str:
    if not run.num_rows and not run.findings:
        return NOTHING  # no rule could look
    severities = [finding.severity for finding in run.findings]
    counted = [
        (severity, severities.count(severity)) for severity in SEVERITIES if severity in severities
    ]
    return ", ".join(
        f"{severity_word(severity)} × {number}" for severity, number in counted
    ) or translate("none")


def _worst(run: Run) -> str:
    found = {finding.severity for finding in run.findings}
    return next((SEVERITY_STYLES[severity] for severity in SEVERITIES if severity in found), "dim")


def _end(run: Run) -> str:
    words = [end_word(end_code(run))]
    if number := num_guarded(run):
        words.append(translate("updates left out: {number}").format(number=count(number)))
    if run.branches:
        words.append(translate("branches: {number}").format(number=count(len(run.branches))))
    return sentences(words)


def _end_style(run: Run) -> str:
    return "" if end_code(run) == "complete" and not num_guarded(run) else "yellow"


RUN = TableColumn[Run](mark("run"), "left", lambda run: run.path.name)
BEGAN = TableColumn[Run](
    mark("began (UTC)"), "left", lambda run: run.info.created_utc.replace("T", " ")[:16]
)
STEPS = TableColumn[Run](mark("steps"), "right", lambda run: count(len(run.steps)))
PARAMETERS = TableColumn[Run](mark("parameters"), "right", lambda run: count(len(run.parameters)))
LAST_LOSS = TableColumn[Run](mark("last loss"), "right", _last_loss)
FINDINGS = TableColumn[Run](mark("findings"), "left", _findings, _worst)
END = TableColumn[Run](mark("status"), "left", _end, _end_style)

SIZE = TableColumn[Run](mark("disk"), "right", lambda run: size(disk_use(run.path)))

COLUMNS = (RUN, BEGAN, STEPS, PARAMETERS, LAST_LOSS, FINDINGS, SIZE, END)
LEFT_OUT_FIRST = (BEGAN, SIZE, PARAMETERS, LAST_LOSS)
"""What a narrow terminal does without: first the time, which the name of a run holds unless the
user chose it.
"""
