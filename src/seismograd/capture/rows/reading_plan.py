"""Where an optimizer's gradients go, until its parameters or the columns change."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch

from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import IntArray
from seismograd.tensors.dtensor import num_held


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """Where an optimizer's gradients go: a column for each of its parameters, and the other
    parameters measured with them.

    `numels` counts the scalars that this process holds of each; a complex one counts twice.
    `frozen`: one of the columns was not trainable.
    """

    version: int  # of the parameter table
    num_gone: int
    ids: list[int]  # of the parameters
    columns: tuple[int, ...]
    positions: IntArray  # (n,) the same
    numels: IntArray  # (n,)
    whole: bool  # they are all columns, in their order
    frozen: bool
    unowned: list[tuple[weakref.ref[torch.Tensor], int]]

    def with_unowned(self, held: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[int]]:
        """Return the parameters and columns of the plan, and of those with a gradient that no
        optimizer holds.
        """
        parameters, columns = list(held), list(self.columns)
        for reference, column in self.unowned:
            tensor = reference()
            if tensor is not None and tensor.grad is not None:
                parameters.append(tensor)
                columns.append(column)
        return parameters, columns


def make_plan(parameter_table: ParameterTable, held: list[torch.Tensor]) -> ReadingPlan:
    """Return the plan for the parameters of one optimizer."""
    columns = tuple(parameter_table.column(p) for p in held)
    unowned = parameter_table.unowned({parameter_table.model(c) for c in columns} - {-1})
    return ReadingPlan(
        parameter_table.version,
        parameter_table.num_gone,
        list(map(id, held)),
        columns,
        np.asarray(columns, np.int64),
        np.asarray([num_scalars(p) for p in held], np.int64),
        columns == tuple(range(len(parameter_table.parameters))),
        not all(parameter_table.parameters[c].trainable for c in columns),
        [(weakref.ref(p), c) for p, c in unowned],
    )


def num_scalars(gradient: torch.Tensor) -> int:
    """Return how many of its scalars this process holds."""
    return num_held(gradient) * (2 if gradient.is_complex() else 1)
