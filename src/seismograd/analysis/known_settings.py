"""The settings of parameter groups as they were at an iteration."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import iteration_at, weight_norms
from seismograd.schema import Fact, FactKind, FloatArray, IntArray, Parameter, RowBatch


@dataclass(slots=True)
class KnownSettings:
    """Takes facts of kind `GROUP_SETTINGS`."""

    _facts: dict[tuple[int, int], list[Fact]] = field(
        default_factory=dict[tuple[int, int], list[Fact]]
    )
    # the groups of these parameters, and in which of them each is
    _parameters: tuple[Parameter, ...] | None = None
    _groups: tuple[tuple[int, int], ...] = ()
    _of_columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def learn(self, fact: Fact) -> bool:
        """Take it in; whether it was one of these."""
        if fact.kind != FactKind.GROUP_SETTINGS:
            return False
        key = fact.optimizer, int(fact.number("group"))
        self._facts.setdefault(key, []).append(fact)
        return True

    def at(self, iteration: int, parameter: Parameter) -> Fact | None:
        """Those of the group that a parameter is in; `None`: not known."""
        facts = self._facts.get(_group_of(parameter), [])
        position = bisect_right(facts, iteration, key=lambda fact: fact.iteration)
        return facts[position - 1] if position else None

    def numbers(
        self,
        name: str,
        iterations: IntArray,
        parameters: tuple[Parameter, ...],
        columns: IntArray,
    ) -> FloatArray:
        """Return a number of the groups that the parameters in these columns are in, NaN where it
        is not known  # (iterations, columns).
        """
        if parameters is not self._parameters:
            self._take_in(parameters)
        of_groups = np.full((len(iterations), len(self._groups)), np.nan)
        for position, group in enumerate(self._groups):
            facts = self._facts.get(group, [])
            since = np.array([fact.iteration for fact in facts], np.int64)
            values = np.array([np.nan, *(fact.number(name) for fact in facts)])
            of_groups[:, position] = values[np.searchsorted(since, iterations, side="right")]
        return of_groups[:, self._of_columns[columns]]

    def _take_in(self, parameters: tuple[Parameter, ...]) -> None:
        groups = [_group_of(each) for each in parameters]
        self._parameters, self._groups = parameters, tuple(dict.fromkeys(groups))
        position = {group: number for number, group in enumerate(self._groups)}
        self._of_columns = np.array([position[group] for group in groups], np.int64)

    def decay_norm(self, block: RowBatch, row: int, optimizer: int) -> float:
        """Return the norm of what weight decay adds to the gradient of an optimizer, NaN where it
        is not known; decoupled decay adds nothing.
        """
        norms = weight_norms(block, row)
        if norms is None:
            return math.nan
        square = 0.0
        for column, parameter in enumerate(block.parameters):
            fact = None
            if parameter.optimizer == optimizer:
                fact = self.at(iteration_at(block, row), parameter)
            if fact is None or fact.number("decoupled") or math.isnan(norms[column]):
                continue
            decay = fact.number("weight_decay")
            square += 0.0 if math.isnan(decay) else float(decay * norms[column]) ** 2
        return square**0.5


def _group_of(parameter: Parameter) -> tuple[int, int]:
    """Return the optimizer and the group that a parameter is in, -1 where they are not known."""
    return (
        -1 if parameter.optimizer is None else parameter.optimizer,
        -1 if parameter.group is None else parameter.group,
    )
