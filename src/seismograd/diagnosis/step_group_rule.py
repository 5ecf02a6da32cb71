"""The base of rules that judge the steps of an optimizer in groups."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.step_group_collector import StepGroupCollector
from seismograd.analysis.step_groups import StepGroup
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.schema import Finding


@dataclass
class StepGroupRule(Rule):
    """A rule that reads groups of ten steps of an optimizer, with the other rules that do."""

    min_evaluated: int = 10  # steps

    step_groups: StepGroupCollector = memory(StepGroupCollector)

    def read_with(self, readers: SharedReaders) -> None:
        """Read the groups that the other rules read."""
        self.step_groups = readers.step_groups

    @abstractmethod
    def judge(self, step_group: StepGroup) -> None:
        """Judge the next group; what is wrong goes to `found`."""

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Judge the groups that this block completes."""
        for step_group in block.read_by(self.step_groups):
            self.judge(step_group)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        """Judge the last group of each optimizer as well, where it has enough steps."""
        for step_group in self.step_groups.rest(self.min_evaluated):
            self.judge(step_group)
        return self.found.take()

    def shortfall(self) -> Message | None:
        """Return how many steps were missing."""
        template = mark("needs {needed} steps with an update, has {has}")
        return too_few(template, self.step_groups.num_steps, self.min_evaluated)
