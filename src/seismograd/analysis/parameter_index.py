"""Classify parameters and number them: which are weights, and numbers that stay the same while
columns move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.schema import AnyArray, IntArray, Parameter


def is_weight(parameter: Parameter) -> bool:
    """Return whether it has two dimensions or more: a bias that begins at zero moves by many times
    its own norm, which means nothing.
    """
    return sum(size > 1 for size in parameter.shape) >= 2


@dataclass(slots=True)
class ParameterIndex:
    """Parameters by name, in the order in which they were first seen."""

    parameters: list[Parameter] = field(default_factory=list[Parameter])
    _positions: dict[str, int] = field(default_factory=dict[str, int])

    def positions(self, parameters: Sequence[Parameter]) -> IntArray:
        """Return the number of each; new names get the next ones."""
        for parameter in parameters:
            if parameter.name not in self._positions:
                self._positions[parameter.name] = len(self.parameters)
                self.parameters.append(parameter)
            else:
                self.parameters[self._positions[parameter.name]] = parameter
        return np.array([self._positions[parameter.name] for parameter in parameters], np.int64)


@dataclass(slots=True)
class ParameterHistory:
    """A record of each parameter, by its name: what a rule counts while columns are added and
    moved. `blank` is that of a parameter which is new  # (1,) of a structured type.
    """

    blank: AnyArray
    records: AnyArray = field(init=False)
    _index: ParameterIndex = field(default_factory=ParameterIndex)

    def __post_init__(self) -> None:
        self.records = self.blank[:0]

    def rows(self, parameters: Sequence[Parameter]) -> IntArray:
        """Return the row of each parameter in `records`."""
        rows = self._index.positions(parameters)
        more = len(self._index.parameters) - len(self.records)
        self.records = np.concatenate([self.records, np.repeat(self.blank, more)])
        return rows
