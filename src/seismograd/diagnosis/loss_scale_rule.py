"""A rule about calls on gradients that are still multiplied by the loss scale."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers, numbers
from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_counter import StepCounter
from seismograd.analysis.step_window import WindowEvent
from seismograd.diagnosis.rule import Rule, memory
from seismograd.i18n import Message
from seismograd.schema import EventKind, Finding


@dataclass
class LossScaleRule(Rule):
    """It picks calls of one kind, and reports an optimizer with `enough` of them."""

    kind: ClassVar[EventKind]

    _steps: StepCounter = memory(StepCounter)
    _repeated: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._repeated = RepeatedFault(self.enough, self.enough, 0.0, self.found)

    @property
    @abstractmethod
    def enough(self) -> int:
        """Return how many such calls it reports."""

    @abstractmethod
    def have_fault(self, block: SharedBlock) -> BoolArray:
        """Return which of `block.events` have the fault, if their gradients are scaled."""

    @abstractmethod
    def describe(self, block: SharedBlock, call: WindowEvent, shown: FaultSteps) -> Finding:
        """Return the finding, of the call with which it is first reported and those so far."""

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Look at the calls in this block."""
        self._steps.add(block)
        scale = numbers(block.events, "scale")
        scaled = (scale != 1) & np.isfinite(scale)
        scaled &= integers(block.events, "kind") == self.kind
        if not scaled.any():
            return ()
        for position in as_list(np.flatnonzero(scaled & self.have_fault(block))):
            call = WindowEvent(*block.events[position].tolist())
            self._repeated.add_event(
                call, lambda shown, call=call: self.describe(block, call, shown)
            )
        return self.found.take()

    def shortfall(self) -> Message | None:
        """Return what was missing to judge at all."""
        return self._steps.shortfall(self.enough)
