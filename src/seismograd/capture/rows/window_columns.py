"""The columns of an optimizer's gradients: all of them, or those that something happened to."""

from __future__ import annotations

import numpy as np
import torch

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.rows.reading_plan import ReadingPlan, make_plan
from seismograd.schema import IntArray

NO_COLUMNS = np.zeros(0, np.int64)  # shared, never written to


def current_plan(
    window: OptimizerWindow, parameter_table: ParameterTable, held: list[torch.Tensor]
) -> ReadingPlan | None:
    """Return the plan of the window if it covers the optimizer's current parameters."""
    known = window.plan
    # Ids distinguish tensors as long as none of them is gone.
    if (
        known is None
        or known.version != parameter_table.version
        or known.num_gone != parameter_table.num_gone
        or known.ids != list(map(id, held))
    ):
        return None
    return known


def plan_of(
    window: OptimizerWindow, parameter_table: ParameterTable, held: list[torch.Tensor]
) -> ReadingPlan:
    """Return the plan of the window, made anew only when it does not cover the parameters."""
    known = current_plan(window, parameter_table, held)
    if known is None:
        known = window.plan = make_plan(parameter_table, held)
    return known


def carried_columns(window: OptimizerWindow, parameter_table: ParameterTable) -> IntArray:
    """Return the columns whose gradient holds what an earlier step used; all of them when all the
    followed ones do.
    """
    marks = window.clearing.carried_over
    if True not in marks:
        return NO_COLUMNS
    seen = [
        p
        for ref, mark in zip(window.clearing.parameters, marks, strict=True)
        if mark and (p := ref()) is not None
    ]
    looked_at = [
        p for ref in window.clearing.parameters if (p := ref()) is not None and p.grad is not None
    ]
    columns = (
        plan_of(window, parameter_table, window.held()).columns
        if len(seen) == len(looked_at)
        else [parameter_table.column(p) for p in seen]
    )
    return np.asarray(columns, np.int64)


def columns_of(
    ids: frozenset[int], window: OptimizerWindow, parameter_table: ParameterTable
) -> IntArray:
    """Return the columns of those of the window's parameters that have these ids."""
    held = window.held()
    known = current_plan(window, parameter_table, held)
    if known is not None and ids.issuperset(known.ids):
        return known.positions
    return np.asarray(
        [parameter_table.column(p) for p in held if id(p) in ids and p in parameter_table],
        np.int64,
    )
