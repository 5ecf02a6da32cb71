"""The settings of parameter groups as they were at an iteration."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from seismograd.schema import Fact, FactKind, Parameter


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
        told = self._facts.get((optimizer, group), [])
        position = bisect_right(told, iteration, key=lambda fact: fact.iteration)
        return told[position - 1] if position else None
