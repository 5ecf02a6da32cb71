"""How the gradients of two runs compare, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.parity.first_difference import SketchedStep
from seismograd.views.parity.parameter_parity import ParameterParity
from seismograd.views.parity.parity_words import details, headline, how
from seismograd.views.parity.run_parity import Outcome, RunParity
from seismograd.views.values import NOTHING, number

_MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class ParityText:
    """The verdict, what is known of it, the parameters in the order of execution around the first
    that differs, and the sketched steps.
    """

    parity: RunParity

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        said = headline(self.parity)
        if not said:
            return
        agrees = self.parity.outcome in (Outcome.SAME, Outcome.DRIFT)
        yield Text(said, "bold green" if agrees else "bold yellow")
        for line in details(self.parity):
            yield Text(f"  {line}")
        if self.parity.outcome is not Outcome.SAME:
            yield Text()
            yield FittingTable(_around(self.parity), COLUMNS, (DISTANCE, SECOND, FIRST))
            hidden = len(self.parity.parameters) - _MOST_ROWS
            if hidden > 0:
                yield Text(
                    translate("… and {number:,} more; --format json lists all").format(
                        number=hidden
                    ),
                    "dim",
                )
        if self.parity.sketched:
            yield Text()
            yield Text(translate("Steps that both runs have sketched"), "bold")
            yield FittingTable(self.parity.sketched, SKETCHED, ())
        yield Text()


def _around(parity: RunParity) -> tuple[ParameterParity, ...]:
    """Return as many parameters as fit, in order, with the culprit among them."""
    if len(parity.parameters) <= _MOST_ROWS or parity.culprit is None:
        return parity.parameters[:_MOST_ROWS]
    at = parity.parameters.index(parity.culprit)
    begin = max(0, min(at - _MOST_ROWS // 2, len(parity.parameters) - _MOST_ROWS))
    return parity.parameters[begin : begin + _MOST_ROWS]


def _known(value: float, digits: int = 4) -> str:
    return NOTHING if math.isnan(value) else number(value, digits)


NAME = TableColumn[ParameterParity](mark("parameter"), "left", lambda each: each.name)
FIRST = TableColumn[ParameterParity](
    mark("norm, first"), "right", lambda each: _known(each.first.norm)
)
SECOND = TableColumn[ParameterParity](
    mark("norm, second"), "right", lambda each: _known(each.second.norm)
)
RATIO = TableColumn[ParameterParity](
    mark("first / second"),
    "right",
    lambda each: NOTHING if math.isnan(each.ratio) else f"×{number(each.ratio, 6)}",
)
COSINE = TableColumn[ParameterParity](mark("cosine"), "right", lambda each: _known(each.cosine, 3))
DISTANCE = TableColumn[ParameterParity](
    mark("difference"), "right", lambda each: _known(each.distance, 2)
)
HOW = TableColumn[ParameterParity](
    mark("compared"), "left", how, lambda each: "green" if each.agrees else "bold yellow"
)
COLUMNS = (NAME, FIRST, SECOND, RATIO, COSINE, DISTANCE, HOW)

STEP = TableColumn[SketchedStep](mark("step"), "right", lambda each: str(each.step))
BETWEEN = TableColumn[SketchedStep](
    mark("cosine between the runs"), "right", lambda each: _known(each.cosine, 4)
)
APART = TableColumn[SketchedStep](
    mark("difference"), "right", lambda each: _known(each.distance, 2)
)
BEFORE_FIRST = TableColumn[SketchedStep](
    mark("first: cosine with the step above"),
    "right",
    lambda each: _known(each.before[0], 3),
)
BEFORE_SECOND = TableColumn[SketchedStep](
    mark("second: cosine with the step above"),
    "right",
    lambda each: _known(each.before[1], 3),
)
SKETCHED = (STEP, BETWEEN, APART, BEFORE_FIRST, BEFORE_SECOND)
