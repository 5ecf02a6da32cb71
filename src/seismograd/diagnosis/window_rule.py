"""A rule about the calls between two steps of one optimizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.analysis.windows import WindowReader
from seismograd.diagnosis.rule import Rule, memory
from seismograd.i18n import Message
from seismograd.schema import Evidence, Finding

P = ParamSpec("P")


@dataclass
class WindowRule(Rule):
    """It looks at each window with anything but one backward and one step, and reports a fault of
    single steps when it is repeated: its thresholds `in_a_row`, `scattered` and `share`.
    """

    _windows: WindowReader = memory(WindowReader)
    _repeated: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        in_a_row = getattr(self, "in_a_row", 1)
        scattered, share = getattr(self, "scattered", 1 << 62), getattr(self, "share", 0.0)
        self._repeated = RepeatedFault(in_a_row, scattered, share, self.found)

    def read_with(self, readers: SharedReaders) -> None:
        """Read windows with the other rules."""
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Look at the windows that end in this block."""
        for window in block.read_by(self._windows):
            self.look(window)
        return self.found.take()

    @abstractmethod
    def look(self, window: StepWindow) -> None:
        """Judge a window: call `at_fault` if it has the fault."""

    def at_fault(
        self,
        window: StepWindow,
        describe: Callable[Concatenate[StepWindow, FaultSteps, P], Finding],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Count a window with the fault. `describe` makes the finding when it is first reported,
        of the window, the steps with the fault so far, and the other arguments.
        """
        self._repeated.add(window, lambda shown: describe(window, shown, *args, **kwargs))

    def finding_of_window(
        self,
        window: StepWindow,
        cause: Message,
        advice: Message,
        excerpt: str = "",
        *,
        evidence: tuple[Evidence, ...],
        at: WindowEvent | None = None,
        since: int | None = None,
        severity: str | None = None,
    ) -> Finding:
        """Return a finding about the optimizer of a window that ends with its step, at the line of
        a call (without `at`, the step); without `since` it is about this step alone.
        """
        return self.finding(
            cause,
            advice,
            excerpt,
            first_step=window.iteration if since is None else since,
            last_step=window.iteration,
            evidence=evidence,
            optimizer=window.optimizer,
            severity=severity,
            where=window.line(window.step if at is None else at),
        )

    def shortfall(self) -> Message | None:
        """Return what was missing to judge at all."""
        return self._windows.shortfall(getattr(self, "in_a_row", 1))
