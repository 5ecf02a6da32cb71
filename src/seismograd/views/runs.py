"""The recorded runs of a directory as a table, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.errors import SeismogradError
from seismograd.i18n import say, translate
from seismograd.record.layout import META
from seismograd.record.reader import Run, open_run
from seismograd.schema import SEVERITIES
from seismograd.views.values import NOTHING, SEVERITY_STYLES, count, number, severity_word


@dataclass(frozen=True, slots=True)
class Listed:
    """A directory that looks like a run: the run, or why it cannot be read."""

    path: Path
    run: Run | None
    problem: str

    @property
    def created_utc(self) -> str:
        """When it began; empty when it cannot be read."""
        return self.run.info.created_utc if self.run else ""


def find_runs(directory: Path) -> list[Listed]:
    """The runs directly inside a directory, the newest first.

    Raises:
        SeismogradError: there is no such directory, or no run in it.
    """
    how_to = say("record one with: seismograd run train.py")
    if not directory.is_dir():
        raise SeismogradError(say("there is no directory {directory}", directory=str(directory)), how_to)
    listed = [_open(path) for path in sorted(directory.iterdir(), reverse=True) if (path / META).exists()]
    if not listed:
        raise SeismogradError(say("there is no run in {directory}", directory=str(directory)), how_to)
    return sorted(listed, key=lambda each: each.created_utc, reverse=True)


def _open(path: Path) -> Listed:
    try:
        return Listed(path, open_run(path), "")
    except SeismogradError as error:
        return Listed(path, None, error.message.render())


def render(listed: Sequence[Listed]) -> RenderableType:
    """One row for each run, and a line for each that cannot be read."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(translate("run"), overflow="fold")
    table.add_column(translate("began (UTC)"), no_wrap=True)
    table.add_column(translate("steps"), justify="right")
    table.add_column(translate("parameters"), justify="right")
    table.add_column(translate("last loss"), justify="right")
    table.add_column(translate("findings"))
    table.add_column(translate("end"))
    for each in listed:
        if each.run is not None:
            table.add_row(each.path.name, *_cells(each.run))
    problems = [Text(each.problem, "red") for each in listed if each.run is None]
    return Group(table, *problems) if problems else table


def _cells(run: Run) -> list[str | Text]:
    num_steps = len(run.steps)
    return [
        run.info.created_utc.replace("T", " ").rstrip("Z"),
        count(num_steps),
        count(len(run.parameters)),
        number(float(run.steps["loss"][-1])) if num_steps else NOTHING,
        _findings(run),
        translate("complete") if run.ended else Text(translate("not ended"), "yellow"),
    ]


def _findings(run: Run) -> Text:
    severities = [finding.severity for finding in run.findings]
    said = Text()
    for severity in SEVERITIES:
        if severity in severities:
            said.append(", " if len(said) else "").append(
                f"{severity_word(severity)} × {severities.count(severity)}", SEVERITY_STYLES[severity]
            )
    return said or Text(translate("none"), "dim")
