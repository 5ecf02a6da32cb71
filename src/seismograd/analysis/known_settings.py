"""The settings of parameter groups as they were at an iteration."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from seismograd.analysis.block_rows import iteration_at, weight_norms
from seismograd.schema import Fact, FactKind, Parameter, RowBatch


@dataclass(slots=True)
class KnownSettings:
    """Takes facts of kind `GROUP_SETTINGS`."""

    _facts: dict[tuple[int, int], list[Fact]] = field(
        default_factory=dict[tuple[int, int], list[Fact]]
    )

    def learn(self, fact: Fact) -> bool:
        """Take it in; whether it was one of these."""
        if fact.kind != FactKind.GROUP_SETTINGS:
            return False
        key = fact.optimizer, int(fact.number("group"))
        self._facts.setdefault(key, []).append(fact)
        return True

    def at(self, iteration: int, parameter: Parameter) -> Fact | None:
        """Those of the group that a parameter is in; `None`: not known."""
        group = -1 if parameter.group is None else parameter.group
        optimizer = -1 if parameter.optimizer is None else parameter.optimizer
        facts = self._facts.get((optimizer, group), [])
        position = bisect_right(facts, iteration, key=lambda fact: fact.iteration)
        return facts[position - 1] if position else None

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
