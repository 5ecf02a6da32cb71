"""The forms in which `show` and `check` can answer. A new one is a file that renders it, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import RenderableType

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views import (
    diagnosis_github,
    diagnosis_json,
    diagnosis_junit,
    diagnosis_sarif,
    diagnosis_text,
    element,
    plain,
    step_json,
    table,
)
from seismograd.views.diagnosis import Verdict
from seismograd.views.element import Elements
from seismograd.views.step import Step

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class View(Generic[Subject]):
    """One form: what `--format` calls it, and what turns its subject into text (printed as it is) or into something that rich draws."""

    name: str
    render: Callable[[Subject], RenderableType]


STEP_VIEWS: tuple[View[Step], ...] = (
    View("table", table.render),
    View("plain", plain.render),
    View("json", step_json.render),
)
ELEMENT_VIEWS: tuple[View[Elements], ...] = (
    View("table", element.table),
    View("plain", element.plain),
    View("json", element.as_json),
)
DIAGNOSIS_VIEWS: tuple[View[Verdict], ...] = (
    View("text", diagnosis_text.render),
    View("json", diagnosis_json.render),
    View("github", diagnosis_github.render),
    View("sarif", diagnosis_sarif.render),
    View("junit", diagnosis_junit.render),
)
VIEWS = (*STEP_VIEWS, *ELEMENT_VIEWS, *DIAGNOSIS_VIEWS)


def find_view(views: tuple[View[Subject], ...], name: str) -> View[Subject]:
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
