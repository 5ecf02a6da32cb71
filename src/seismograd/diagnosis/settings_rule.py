"""The base of rules that hold gradients and updates against the settings of parameter groups."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.schema import Fact, FactKind, Finding, IntArray


@dataclass
class SettingsRule(Rule):
    """A rule that knows weight decay, momentum, eps and betas as they were at each iteration."""

    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.GROUP_SETTINGS,)

    min_evaluated: int = 5  # steps

    settings: KnownSettings = memory(KnownSettings)
    _num_steps: int = memory(int)

    @abstractmethod
    def judge(self, block: SharedBlock, optimizer: int, rows: IntArray) -> None:
        """Judge the updates of an optimizer that holds parameters, in these rows; what is wrong
        goes to `found`.
        """

    def learn(self, fact: Fact) -> Iterable[Finding]:
        """Take in what the settings are now."""
        self.settings.learn(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Judge the updates of each optimizer."""
        for optimizer, rows in block.updated:
            self._num_steps += len(rows)
            if optimizer in block.columns_of:
                self.judge(block, optimizer, rows)
        return self.found.take()

    def shortfall(self) -> Message | None:
        """Return how many steps were missing."""
        template = mark("needs {needed} steps with an update, has {has}")
        return too_few(template, self._num_steps, self.min_evaluated)
