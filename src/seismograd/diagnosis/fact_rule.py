"""A rule that decides by facts and not by numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.block_rows import iteration_at
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.schema import Fact, FactKind, Finding


@dataclass
class FactRule(Rule):
    """It is given the facts of the kinds that it takes; of the blocks it only counts the steps.

    A fact of these kinds is told at the first times and ever more rarely, so what a later one adds
    to a finding is its last step: `self.found.add_or_extend`.
    """

    # kinds that it takes and can do without
    takes_facts: ClassVar[tuple[FactKind, ...]] = ()

    min_evaluated: int = 5  # steps

    _num_rows: int = memory(int)
    _last_step: int = memory(lambda: -1)

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Count the steps."""
        self._num_rows += len(block)
        self._last_step = iteration_at(block, -1) if len(block) else self._last_step
        return self.found.take()

    @final
    def learn(self, fact: Fact) -> Iterable[Finding]:
        """Take a fact, if it is of a kind that the rule takes."""
        if fact.kind in self.needs_facts or fact.kind in self.takes_facts:
            self.judge(fact)
        return self.found.take()

    @abstractmethod
    def judge(self, fact: Fact) -> None:
        """Add what it means to `found`."""

    def shortfall(self) -> Message | None:
        """Return what was missing to judge at all."""
        return too_few(mark("needs {needed} steps, has {has}"), self._num_rows, self.min_evaluated)
