"""Track a fault of single steps: when it has occurred often enough to be reported, and how the
finding continues from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from seismograd.analysis.finding_tracker import FindingTracker
from seismograd.analysis.step_window import StepWindow
from seismograd.schema import Finding, RowBatch


@dataclass(slots=True)
class FaultSteps:
    """The steps of one optimizer with the fault: how many, how many in a row up to the last one,
    and since which iteration.
    """

    num: int = 0
    in_a_row: int = 0
    since: int = -1  # those in a row
    first: int = -1
    last: int = -1
    last_index: int = -2

    def add(self, index: int, iteration: int) -> None:
        """Add another one, the optimizer's step number `index`."""
        self.in_a_row = self.in_a_row + 1 if index == self.last_index + 1 else 1
        self.since = iteration if self.in_a_row == 1 else self.since
        self.num += 1
        self.first = iteration if self.first < 0 else self.first
        self.last, self.last_index = iteration, index


@dataclass(slots=True)
class RepeatedFault:
    """Found when `in_a_row` steps in a row have the fault, or `scattered` of them that are at least
    `share` of the optimizer's steps.
    """

    in_a_row: int
    scattered: int
    share: float
    shown: dict[int, FaultSteps] = field(default_factory=dict[int, FaultSteps])
    _found: FindingTracker = field(default_factory=FindingTracker)
    _num_events: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, window: StepWindow, describe: Callable[[FaultSteps], Finding]) -> None:
        """Add a window with the fault. `describe` makes the finding when it is first reported."""
        self.add_at(window.optimizer, window.index, window.iteration, describe)

    def add_at(
        self, optimizer: int, index: int, iteration: int, describe: Callable[[FaultSteps], Finding]
    ) -> None:
        """Add number `index` of whatever is counted, in this iteration."""
        shown = self.shown.setdefault(optimizer, FaultSteps())
        shown.add(index, iteration)
        if optimizer not in self._found:
            enough = shown.num >= self.scattered and shown.num >= self.share * (index + 1)
            if shown.in_a_row < self.in_a_row and not enough:
                return
            finding = describe(shown)
            if any(each.where == finding.where != "" for each in self._found):
                return  # another optimizer at the same line: one finding is enough
            self._found.add(finding)
        self._found.extend(iteration, optimizer)

    def add_event(
        self, block: RowBatch, position: int, describe: Callable[[FaultSteps], Finding]
    ) -> None:
        """Add the event at this position of the block; those of one optimizer are counted among
        themselves.
        """
        optimizer, iteration = (
            int(block.events["optimizer"][position]),
            int(block.events["iteration"][position]),
        )
        self._num_events[optimizer] = self._num_events.get(optimizer, 0) + 1
        self.add_at(optimizer, self._num_events[optimizer] - 1, iteration, describe)

    def interrupt(self, optimizer: int) -> None:
        """End a run of consecutive faults: the next one is of another kind."""
        if optimizer in self.shown:
            self.shown[optimizer].last_index = -2

    def has_found(self, optimizer: int) -> bool:
        """Return whether there is a finding about this optimizer."""
        return optimizer in self._found

    def take(self) -> list[Finding]:
        """Return the findings that are new or have grown since the last call."""
        return self._found.take()
