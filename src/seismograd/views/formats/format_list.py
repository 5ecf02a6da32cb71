"""The forms in which `show` and `check` can answer. A new one is a file that renders it, and a
line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import RenderableType

from seismograd.diagnosis.verdict import Verdict
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views import element_series
from seismograd.views.element_series import ElementSeries
from seismograd.views.formats import (
    diagnosis_github,
    diagnosis_json,
    diagnosis_junit,
    diagnosis_sarif,
    diagnosis_text,
    step_json,
    step_plain,
    step_table,
)
from seismograd.views.step import RecordedStep

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[Subject]):
    """One form: what `--format` calls it, and what turns its subject into text (printed as it
    is) or into something that rich draws.
    """

    name: str
    render: Callable[[Subject], RenderableType]


STEP_FORMATS: tuple[OutputFormat[RecordedStep], ...] = (
    OutputFormat("table", step_table.render),
    OutputFormat("plain", step_plain.render),
    OutputFormat("json", step_json.render),
)
ELEMENT_FORMATS: tuple[OutputFormat[ElementSeries], ...] = (
    OutputFormat("table", element_series.table),
    OutputFormat("plain", element_series.plain),
    OutputFormat("json", element_series.as_json),
)
DIAGNOSIS_FORMATS: tuple[OutputFormat[Verdict], ...] = (
    OutputFormat("text", diagnosis_text.render),
    OutputFormat("json", diagnosis_json.render),
    OutputFormat("github", diagnosis_github.render),
    OutputFormat("sarif", diagnosis_sarif.render),
    OutputFormat("junit", diagnosis_junit.render),
)
ALL_FORMATS = (*STEP_FORMATS, *ELEMENT_FORMATS, *DIAGNOSIS_FORMATS)


def find_format(views: tuple[OutputFormat[Subject], ...], name: str) -> OutputFormat[Subject]:
    """The view of that name.

    Raises:
        SeismogradError: there is none.
    """
    for view in views:
        if view.name == name:
            return view
    raise SeismogradError(
        say("there is no format {name}", name=repr(name)),
        say("the formats are {names}", names=", ".join(view.name for view in views)),
    )
