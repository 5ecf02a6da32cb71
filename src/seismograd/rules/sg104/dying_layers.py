"""Track the layers whose units may die, by name, since columns move.

Shapes: L layers ever seen, C layers in the columns of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, columns_where
from seismograd.analysis.parameter_index import ParameterIndex, is_weight
from seismograd.rules.sg104.layer_connections import NEVER_ZERO, depth_number
from seismograd.schema import FloatArray, IntArray, Parameter


def _no_numbers() -> IntArray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class DyingLayer:
    """A weight that was dead in its last count."""

    parameter: Parameter
    position: int  # among all layers
    first: int  # the iteration in which that began
    last: int
    dead: int  # rows
    limit: float

    @property
    def share(self) -> float:
        """Return how many of its rows are dead."""
        return self.dead / self.parameter.shape[0]


@dataclass(slots=True)
class DyingLayers:
    """The counts of all weights that can die. What is given by columns is of `columns`."""

    columns: IntArray = field(default_factory=_no_numbers)  # (C,)
    num_rows: IntArray = field(default_factory=_no_numbers)  # of each  # (C,)
    # counts in a row in which it was dead  # (L,)
    num: IntArray = field(default_factory=_no_numbers)
    first: IntArray = field(default_factory=_no_numbers)
    last: IntArray = field(default_factory=_no_numbers)
    dead: IntArray = field(default_factory=_no_numbers)
    limit: FloatArray = field(default_factory=lambda: np.zeros(0))
    _positions: IntArray = field(default_factory=_no_numbers)  # among all  # (C,)
    _parameters: tuple[Parameter, ...] | None = None  # that have the columns
    _index: ParameterIndex = field(default_factory=ParameterIndex)

    def take_in(self, parameters: tuple[Parameter, ...], min_rows: int) -> bool:
        """Go on with these parameters; return whether they are others than before."""
        if parameters is self._parameters:
            return False
        self._parameters = parameters
        self.columns = columns_where(parameters, lambda each: _can_die(each, min_rows))
        layers = [parameters[column] for column in as_list(self.columns)]
        self.num_rows = np.array([each.shape[0] for each in layers], np.int64)
        self._positions = self._index.positions(layers)
        more = len(self._index.parameters) - len(self.num)
        if more > 0:
            none, never = np.zeros(more, np.int64), np.full(more, -1)
            self.num, self.dead = (np.concatenate([each, none]) for each in (self.num, self.dead))
            self.first = np.concatenate([self.first, never])
            self.last = np.concatenate([self.last, never])
            self.limit = np.concatenate([self.limit, np.zeros(more)])
        return True

    def revive(self, wanted: BoolArray) -> None:
        """Mark these columns as alive."""
        positions = self._positions[wanted]
        self.num[positions], self.first[positions] = 0, -1

    def kill(
        self, wanted: BoolArray, since: int, now: int, dead: IntArray, limit: FloatArray
    ) -> IntArray:
        """Mark these columns as dead; return for how many counts in a row each is  # (C,)."""
        at = self._positions[wanted]
        self.num[at] += 1
        self.first[at] = np.where(self.num[at] == 1, since, self.first[at])
        self.last[at], self.dead[at], self.limit[at] = now, dead[wanted], limit[wanted]
        return self.num[self._positions]

    def owners(self, wanted: BoolArray) -> list[int]:
        """Return the optimizers of these columns in ascending order, -1 for none."""
        positions = as_list(self._positions[wanted])
        found = [self._index.parameters[position].optimizer for position in positions]
        return sorted({-1 if each is None else each for each in found})

    def dead_now(self, owner: int, least: int) -> Sequence[DyingLayer]:
        """Return the layers of an optimizer that are dead in so many counts, nearest the input
        first, without those that are so because a later one is dead as a whole.
        """
        at = as_list(np.flatnonzero(self.num >= least))
        dead = [self._at(position) for position in at]
        own = [
            each for each in dead if each.parameter.optimizer == (None if owner == -1 else owner)
        ]
        deepest = max((depth_number(each.parameter) for each in own if each.share == 1), default=-1)
        left = [each for each in own if depth_number(each.parameter) >= deepest or each.share < 1]
        return sorted(left, key=lambda each: depth_number(each.parameter))

    def _at(self, position: int) -> DyingLayer:
        return DyingLayer(
            self._index.parameters[position],
            position,
            int(self.first[position]),
            int(self.last[position]),
            int(self.dead[position]),
            float(self.limit[position]),
        )


def _can_die(parameter: Parameter, min_rows: int) -> bool:
    is_other = "Embedding" in parameter.module or "Transpose" in parameter.module
    if parameter.activation in NEVER_ZERO or is_other:
        return False
    return is_weight(parameter) and parameter.trainable and parameter.shape[0] >= min_rows
