"""How an optimizer accumulates: how many micro-batches make up one of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.analysis.step_window import StepWindow
from seismograd.schema import Finding


@dataclass(frozen=True, slots=True)
class PendingFinding:
    """A finding that the next window decides: it must have `num_after` micro-batches (0: any), and
    `whole` be the usual number (0: any).
    """

    index: int
    num_after: int
    finding: Finding
    whole: int = 0


@dataclass(slots=True)
class AccumulationLoop:
    """How one optimizer accumulates: `whole` micro-batches a step, 0 while that is not known."""

    whole: int = 0
    where: str = ""  # its backward
    num_windows: int = 0
    num_whole: int = 0
    num_cleared: int = 0  # windows before which something was discarded
    waiting: list[PendingFinding] = field(default_factory=list[PendingFinding])
    _last: int = 0
    _in_a_row: int = 0

    def add(self, num: int, min_whole: int) -> None:
        """Add a step with this many micro-batches."""
        self._in_a_row = self._in_a_row + 1 if num == self._last else 1
        self._last = num
        if num >= 2 and self._in_a_row >= min_whole and num != self.whole:
            self.whole, self.num_whole = num, self._in_a_row
            self.waiting = [each for each in self.waiting if each.whole in (0, num)]
        elif num == self.whole:
            self.num_whole += 1

    def wait(
        self, window: StepWindow, finding: Finding, num_after: int = 0, whole: int = 0
    ) -> None:
        """Keep a finding about this window until the next one decides."""
        self.waiting.append(PendingFinding(window.index, num_after, finding, whole))

    def confirmed(self, num: int) -> list[PendingFinding]:
        """Return what waited and was right, now that a window of `num` micro-batches follows."""
        if not self.whole:
            return []
        waiting, self.waiting = self.waiting, []
        return [
            each for each in waiting if each.whole in (0, self.whole) and each.num_after in (0, num)
        ]

    def is_regular(self) -> bool:
        """Return whether nearly all windows are whole."""
        return (
            self.whole >= 2
            and self.num_whole >= 3
            and self.num_whole >= 0.75 * (self.num_windows - 1)
        )
