"""Single scalars at every recorded step: what `show --element` renders as a table, in the plain
format or as JSON.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.errors import SeismogradError
from seismograd.i18n import say, translate
from seismograd.record import strict_json
from seismograd.record.parameter_selection import nearest_names
from seismograd.record.reader import Run
from seismograd.schema import SCHEMA_VERSION, FloatArray, IntArray, State
from seismograd.settings.elements import ElementSpec, parse_element
from seismograd.views.sparkline import sparkline
from seismograd.views.values import NOTHING, number, sentences

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class ScalarSeries:
    """One scalar of a gradient over the steps."""

    name: str
    values: FloatArray  # (T,)
    seen: FloatArray  # (T,); 1 where it was measured


@dataclass(frozen=True, slots=True)
class ElementSeries:
    """The requested scalars, over the same steps."""

    run: Run
    iterations: IntArray  # (T,)
    series: tuple[ScalarSeries, ...]


def read_elements(run: Run, wanted: Sequence[ElementSpec]) -> ElementSeries:
    """Return the scalars named by `wanted`.

    Raises:
        SeismogradError: one does not exist, or was not recorded.
    """
    names, values = run.elements  # (T, E)
    recorded = {str(_within(run, parse_element(name))): column for column, name in enumerate(names)}
    return ElementSeries(
        run, run.steps["iteration"], tuple(_series(run, spec, recorded, values) for spec in wanted)
    )


def _series(
    run: Run, spec: ElementSpec, recorded: dict[str, int], values: FloatArray
) -> ScalarSeries:
    column = _column(run, spec.parameter)
    if column is None:
        raise SeismogradError(
            say("there is no parameter named {parameter}", parameter=spec.parameter),
            nearest_names(run.parameters, spec.parameter),
        )
    spec = spec.within(run.parameters[column].shape)
    if str(spec) not in recorded:
        raise SeismogradError(
            say("{element} was not recorded in this run", element=str(spec)),
            say(
                "record it with: seismograd run --element {element} {script}",
                element=shlex.quote(str(spec)),
                script=shlex.quote(run.info.script),
            ),
        )
    states = run.states[:, column]
    seen = (states != State.NOT_MEASURED) & (states != State.ABSENT)
    return ScalarSeries(str(spec), values[:, recorded[str(spec)]], seen.astype(np.float64))


def _column(run: Run, name: str) -> int | None:
    return next(
        (
            column
            for column, each in enumerate(run.parameters)
            if name == each.name or name in each.aliases
        ),
        None,
    )


def _within(run: Run, spec: ElementSpec) -> ElementSpec:
    column = _column(run, spec.parameter)
    if column is None or len(run.parameters[column].shape) != len(spec.index):
        return spec
    return spec.within(run.parameters[column].shape)


def table(elements: ElementSeries) -> RenderableType:
    """Return a row for each step, then the extremes and the course of each scalar."""
    return _ElementTable(elements)


@dataclass(frozen=True, slots=True)
class _ElementTable:
    elements: ElementSeries

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        rows = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        rows.add_column(translate("step"), justify="right")
        for series in self.elements.series:
            rows.add_column(Text(series.name), justify="right", overflow="fold")
        for row, iteration in enumerate(self.elements.iterations):
            rows.add_row(str(iteration), *(_cell(series, row) for series in self.elements.series))
        yield rows
        for series in self.elements.series:
            yield Text()
            yield from (
                Text(line)
                for line in _summary(
                    series, self.elements.iterations, min(60, options.max_width - 2)
                )
            )


def plain(elements: ElementSeries) -> str:
    """Return one line for each scalar and step, then the extremes."""
    lines = [
        translate("step {step} | {element} = {value}").format(
            step=iteration, element=series.name, value=_cell(series, row)
        )
        for series in elements.series
        for row, iteration in enumerate(elements.iterations)
    ]
    for series in elements.series:
        lines += _summary(series, elements.iterations, 60)
    return "\n".join(lines)


def as_json(elements: ElementSeries) -> str:
    """Return the steps and the values of each scalar; null where it was not measured."""
    content = {
        "schema": SCHEMA_VERSION,
        "run": str(elements.run.path),
        "steps": [int(iteration) for iteration in elements.iterations],
        "elements": [
            {
                "name": series.name,
                "values": [
                    float(value) if seen else None
                    for value, seen in zip(series.values, series.seen, strict=True)
                ],
            }
            for series in elements.series
        ],
    }
    return strict_json.dumps(content, indent=2).decode()


def _cell(series: ScalarSeries, row: int) -> str:
    return number(float(series.values[row]), _DIGITS) if series.seen[row] else NOTHING


def _summary(series: ScalarSeries, iterations: IntArray, width: int) -> Iterator[str]:
    rows = np.flatnonzero(series.seen)
    yield series.name
    if len(rows) == 0:
        yield "  " + translate("never measured")
        return
    finite = rows[np.isfinite(series.values[rows])]
    said = [
        _at(translate("first"), series, iterations, rows[0]),
        _at(translate("last"), series, iterations, rows[-1]),
    ]
    if len(finite):
        said.append(
            _at(translate("minimum"), series, iterations, finite[np.argmin(series.values[finite])])
        )
        said.append(
            _at(translate("maximum"), series, iterations, finite[np.argmax(series.values[finite])])
        )
    if len(finite) < len(rows):
        said.append(
            translate("steps with a non-finite value: {number}").format(
                number=len(rows) - len(finite)
            )
        )
    yield "  " + sentences(said[:2])
    if said[2:]:
        yield "  " + sentences(said[2:])
    yield "  " + sparkline(series.values, series.seen, width)


def _at(what: str, series: ScalarSeries, iterations: IntArray, row: int) -> str:
    return translate("{what} {value} (step {step})").format(
        what=what, value=number(float(series.values[row]), _DIGITS), step=iterations[row]
    )
