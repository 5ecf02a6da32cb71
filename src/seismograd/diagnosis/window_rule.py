"""A rule about the calls between two steps of one optimizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Concatenate, ParamSpec

from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.step_window import StepWindow
from seismograd.analysis.windows import WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message
from seismograd.schema import Finding

P = ParamSpec("P")


@dataclass
class WindowRule(Rule):
    """It looks at each window with anything but one backward and one step, and reports a fault of
    single steps when it is repeated: its thresholds `in_a_row`, `scattered` and `share`.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    _windows: WindowReader = field(default_factory=WindowReader, init=False, repr=False)
    _repeated: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        in_a_row = getattr(self, "in_a_row", 1)
        scattered, share = getattr(self, "scattered", 1 << 62), getattr(self, "share", 0.0)
        self._repeated = RepeatedFault(in_a_row, scattered, share)

    def read_with(self, readers: SharedReaders) -> None:
        """Read windows with the other rules."""
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Look at the windows that end in this block."""
        for window in block.read_by(self._windows):
            self.look(block, window)
        return self._repeated.take()

    @abstractmethod
    def look(self, block: SharedBlock, window: StepWindow) -> None:
        """Judge a window: call `at_fault` if it has the fault."""

    def at_fault(
        self,
        describe: Callable[Concatenate[SharedBlock, StepWindow, FaultSteps, P], Finding],
        block: SharedBlock,
        window: StepWindow,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Count a window with the fault. `describe` makes the finding when it is first reported,
        of the window, the steps with the fault so far, and the other arguments.
        """
        rest = partial(describe, block, window)
        self._repeated.add(window, lambda shown: rest(shown, *args, **kwargs))

    def shortfall(self) -> Message | None:
        """Return what was missing to judge at all."""
        return self._windows.shortfall(getattr(self, "in_a_row", 1))
