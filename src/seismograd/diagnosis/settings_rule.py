"""The base of rules that hold gradients and updates against the settings of parameter groups."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Fact, FactKind, Finding, IntArray


@dataclass
class SettingsRule(Rule):
    """A rule that knows weight decay, momentum, eps and betas as they were at each iteration."""

    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.GROUP_SETTINGS,)

    min_evaluated: int = 5  # steps

    settings: KnownSettings = field(default_factory=KnownSettings, init=False, repr=False)
    _num_steps: int = field(default=0, init=False, repr=False)

    @abstractmethod
    def judge(self, block: SharedBlock, optimizer: int, rows: IntArray, columns: IntArray) -> None:
        """Judge the updates of an optimizer in these rows, of the parameters in these columns;
        what is wrong goes to `found`.
        """

    def learn(self, fact: Fact) -> Iterable[Finding]:
        """Take in what the settings are now."""
        self.settings.learn(fact)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Judge the updates of each optimizer."""
        for optimizer, rows in block.updated:
            self._num_steps += len(rows)
            columns = [
                column
                for column, each in enumerate(block.parameters)
                if each.optimizer == optimizer
            ]
            if columns:
                self.judge(block, optimizer, rows, np.array(columns, np.int64))
        return self.found.take()

    def shortfall(self) -> Message | None:
        """Return how many steps were missing."""
        if self._num_steps < self.min_evaluated:
            return say(
                "needs {needed} steps with an update, has {has}",
                needed=self.min_evaluated,
                has=self._num_steps,
            )
        return None
