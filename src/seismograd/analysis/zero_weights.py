"""Find weights that were made of zeros and multiply each other, so that neither can begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    integers,
    numbers,
    site_of,
    weight_norms,
)
from seismograd.schema import EventKind, IntArray, Parameter, RowBatch, State

LOOKS = 2  # sampled steps


@dataclass(slots=True)
class ZeroWeights:
    """The weights of one optimizer that are zero, with gradients of zero, from its first sampled
    step to the second: one layer of zeros gets a gradient at once, or as soon as the layer after it
    has moved.
    """

    names: tuple[str, ...] = ()  # those of which two follow each other, after both looks
    first: int = -1  # iterations
    last: int = -1
    where: str = ""
    model: str = ""  # the script's name for the model of the first
    _num_looks: int = 0
    _left: frozenset[str] = frozenset()

    @property
    def is_over(self) -> bool:
        """Return whether there is nothing left to find."""
        return self._num_looks == LOOKS or (self._num_looks > 0 and len(self._left) < 2)

    def read(self, block: RowBatch, optimizer: int, columns: IntArray, counts: BoolArray) -> None:
        """Take in the rows of a block in which the optimizer moved what has a gradient."""
        moves = counts & (numbers(block.steps, "lr") != 0)
        for row in as_list(np.flatnonzero(moves)):
            if self.is_over:
                return
            norms = weight_norms(block, row)
            if norms is None and self._num_looks == 0:
                continue
            zero = columns[block.state[row, columns] == State.ZERO]
            if norms is not None:
                zero = zero[norms[zero] == 0]
            names = frozenset(block.parameters[column].name for column in as_list(zero))
            self._left = names & self._left if self._num_looks else names
            if norms is None:
                continue
            self._num_looks += 1
            self.last = int(integers(block.steps, "iteration")[row])
            if self._num_looks == 1:
                self.first = self.last
            else:
                self.names = _in_sequence(
                    [block.parameters[c] for c in as_list(columns)], self._left
                )
                self.model = next(
                    (each.model for each in block.parameters if each.name in self.names), ""
                )
                self.where = site_of(block, EventKind.STEP, self.last, optimizer)

    def goes_on_until(self, block: RowBatch) -> int:
        """Return the last sampled iteration of a block in which they are still zero, or -1."""
        columns = [at for at, each in enumerate(block.parameters) if each.name in self.names]
        for row in reversed(as_list(block.sample_rows)):
            norms = weight_norms(block, row)
            if norms is not None and columns and not norms[columns].any():
                return int(integers(block.steps, "iteration")[row])
        return -1


def _in_sequence(parameters: Sequence[Parameter], zero: frozenset[str]) -> tuple[str, ...]:
    """Return the weights of zeros that come right before or after another in the forward pass."""
    weights = sorted(
        (each for each in parameters if each.trainable and len(each.shape) > 1),
        key=lambda each: -1 if each.depth is None else each.depth,
    )
    found: dict[str, None] = {}
    for each, following in pairwise(weights):
        if each.depth is not None and {each.name, following.name} <= zero:
            found |= {each.name: None, following.name: None}
    return tuple(found)
