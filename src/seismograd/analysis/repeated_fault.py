"""Track a fault of single steps: when it has occurred often enough to be reported, and how the
finding continues from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from seismograd.analysis.finding_tracker import FindingTracker
from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.schema import Finding


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
    `share` of the optimizer's steps; then it goes to `found`.
    """

    in_a_row: int
    scattered: int
    share: float
    found: FindingTracker = field(default_factory=FindingTracker)
    shown: dict[int, FaultSteps] = field(default_factory=dict[int, FaultSteps])
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
        if optimizer not in self.found:
            enough = shown.num >= self.scattered and shown.num >= self.share * (index + 1)
            if shown.in_a_row < self.in_a_row and not enough:
                return
            finding = describe(shown)
            if any(each.where == finding.where != "" for each in self.found):
                return  # another optimizer at the same line: one finding is enough
            self.found.add(finding)
        self.found.extend(iteration, optimizer)

    def add_finding(self, index: int, finding: Finding) -> None:
        """Add a step that has the fault by itself, which may have been long ago."""
        self.add_at(finding.optimizer, index, finding.first_step, lambda _: finding)

    def add_event(self, call: WindowEvent, describe: Callable[[FaultSteps], Finding]) -> None:
        """Add a call with the fault; those of one optimizer are counted among themselves."""
        num = self._num_events[call.optimizer] = self._num_events.get(call.optimizer, 0) + 1
        self.add_at(call.optimizer, num - 1, call.iteration, describe)

    def interrupt(self, optimizer: int) -> None:
        """End a run of consecutive faults: the next one is of another kind."""
        if optimizer in self.shown:
            self.shown[optimizer].last_index = -2
