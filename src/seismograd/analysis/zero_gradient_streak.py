"""Track the consecutive steps of one optimizer in which all gradients are zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    columns_where,
    integers,
    numbers,
    site_of,
)
from seismograd.analysis.script_names import optimizer_name
from seismograd.schema import EventKind, IntArray, RowBatch, State, StepFlag


@dataclass(slots=True)
class ZeroGradientStreak:
    """Consecutive steps of one optimizer, up to the last one, whose gradients were all zero.
    `found`: the finding is known.
    """

    num: int = 0
    since: int = -1
    last: int = -1
    num_steps: int = 0  # of the optimizer in all
    has_moved: bool = False  # there was a gradient before
    has_loss: bool = False  # the loss was not zero throughout
    found: bool = False
    names: tuple[str, ...] = ()
    where: str = ""
    optimizer: str = "optimizer"
    is_half: bool = False  # computed in float16, where small gradients become zero

    def add(self, block: RowBatch, optimizer: int, row: int, columns: IntArray) -> None:
        """Add another step; the columns are those of the zero gradients."""
        iteration = int(integers(block.steps, "iteration")[row])
        loss = float(numbers(block.steps, "loss")[row])
        flags = int(integers(block.steps, "flags")[row])
        zero = [block.parameters[column] for column in as_list(columns)]
        if self.num == 0:
            self.since, self.has_loss = iteration, False
            self.names = tuple(each.name for each in zero)
            self.where = site_of(block, EventKind.STEP, iteration, optimizer)
            self.optimizer = optimizer_name(block, optimizer)
        self.num, self.num_steps, self.last = self.num + 1, self.num_steps + 1, iteration
        # the first graph need not have shown the dtype it is computed in
        self.is_half = any("float16" in (each.dtype, each.compute_dtype) for each in zero)
        self.has_loss |= loss != 0 or bool(flags & StepFlag.NO_LOSS)

    def end(self, num: int) -> None:
        """Add steps with gradients that are not zero."""
        self.num_steps += num
        if num:
            self.num, self.found, self.has_moved = 0, False, True

    def read_behind(self, block: RowBatch, optimizer: int, counts: BoolArray, enough: int) -> bool:
        """Read the rows that count, of the parameters `names` alone: they get no gradient where
        others do. Return whether that is so for enough steps in a row; what follows is not read.
        """
        columns = columns_where(block.parameters, lambda each: each.name in self.names)
        iterations = integers(block.steps, "iteration")
        for row in as_list(np.flatnonzero(counts & (iterations >= self.since))):
            state = block.state[row, columns]
            measured = state[state >= State.ZERO]
            if not len(measured):
                continue
            self.num = self.num + 1 if (measured == State.ZERO).all() else 0
            self.last = int(iterations[row])
            if self.num == enough:
                self.where = site_of(block, EventKind.STEP, self.last, optimizer)
                self.optimizer = optimizer_name(block, optimizer)
                return True
        return False
