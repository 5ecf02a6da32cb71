"""What optimizers remember of some parameters' gradients, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from seismograd.i18n import mark
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.optimizer_states import OptimizerState
from seismograd.views.values import NOTHING, count, number

NAME = TableColumn[OptimizerState](mark("parameter"), "left", lambda state: state.parameter)
STEP = TableColumn[OptimizerState](mark("sampled at"), "right", lambda state: str(state.step))


def _number(title: str, field: str) -> TableColumn[OptimizerState]:
    def cell(state: OptimizerState) -> str:
        return number(state.numbers[field]) if field in state.numbers else NOTHING

    return TableColumn[OptimizerState](title, "right", cell)


def _age(state: OptimizerState) -> str:
    return count(int(state.numbers["age"])) if state.number("age") >= 0 else NOTHING


def _below_eps(state: OptimizerState) -> str:
    share = state.number("below_eps")
    return f"{share:.0%}" if share >= 0 else NOTHING


NUMBERS = {
    "age": TableColumn[OptimizerState](mark("age"), "right", _age),
    "gradient_to_state": _number(mark("g/√v"), "gradient_to_state"),
    "momentum_to_root": _number(mark("m/√v"), "momentum_to_root"),
    "below_eps": TableColumn[OptimizerState](mark("√v < eps"), "right", _below_eps),
    "momentum_to_gradient": _number(mark("|buf|/|g|"), "momentum_to_gradient"),
    "newton_schulz_norm": _number(mark("Newton–Schulz"), "newton_schulz_norm"),
}


def state_table(states: Sequence[OptimizerState]) -> RenderableType:
    """Return one row for each parameter, with the columns that any of them has."""
    columns = [
        column for field, column in NUMBERS.items() if any(field in s.numbers for s in states)
    ]
    return FittingTable(states, (NAME, STEP, *columns), (STEP,))
