"""The list of output formats of `show` and `check`. To add one: a file that renders it, its name in
`format_names`, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import RenderableType

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views import element_series
from seismograd.views.formats import (
    diagnosis_github,
    diagnosis_json,
    diagnosis_junit,
    diagnosis_sarif,
    diagnosis_text,
    modules_json,
    modules_plain,
    modules_table,
    step_json,
    step_plain,
    step_table,
)
from seismograd.views.formats.format_names import DIAGNOSIS_FORMAT_NAMES, STEP_FORMAT_NAMES

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[Subject]):
    """One format: its name for `--format`, and a function that turns its subject into text (printed
    as it is) or into something that rich draws.
    """

    name: str
    render: Callable[[Subject], RenderableType]


def _named(
    names: tuple[str, ...], *renderers: Callable[[Subject], RenderableType]
) -> tuple[OutputFormat[Subject], ...]:
    return tuple(OutputFormat(name, render) for name, render in zip(names, renderers, strict=True))


STEP_FORMATS = _named(STEP_FORMAT_NAMES, step_table.render, step_plain.render, step_json.render)
ELEMENT_FORMATS = _named(
    STEP_FORMAT_NAMES, element_series.table, element_series.plain, element_series.as_json
)
MODULES_FORMATS = _named(
    STEP_FORMAT_NAMES, modules_table.render, modules_plain.render, modules_json.render
)
DIAGNOSIS_FORMATS = _named(
    DIAGNOSIS_FORMAT_NAMES,
    diagnosis_text.render,
    diagnosis_json.render,
    diagnosis_github.render,
    diagnosis_sarif.render,
    diagnosis_junit.render,
)


def find_format(views: tuple[OutputFormat[Subject], ...], name: str) -> OutputFormat[Subject]:
    """Return the format of that name.

    Raises:
        SeismogradError: there is none.
    """
    for view in views:
        if view.name == name:
            return view
    raise SeismogradError(
        say("unknown format {name}", name=repr(name)),
        say("available formats: {names}", names=", ".join(view.name for view in views)),
    )
