"""What a steady step does only now and then, where its visits are made in C: Python does it, and
nothing else of the visit.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch

from seismograd.capture.loop.iteration import CapturedEvent, OptimizerStep
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.steady.steady_parts import SteadyParts


class RareParts:
    """Each method returns `True`: it has handled what it was called for. Those of a step are given
    its optimizer first, as what is told of a step that an exception breaks off.
    """

    def __init__(self, parts: SteadyParts) -> None:
        self._guard, self._births, self._steps = parts.guard, parts.births, parts.steps
        self._xray, self._losses = parts.xray, parts.backwards.inspection.losses
        self._spent, self._reader, self._looks = parts.spent, parts.reader, parts.late_looks

    def hold(self, _: ThreadState, tops: list[Any], after: int) -> bool:
        """Hold what operations of a loss were given whose derivative may be infinite."""
        self._guard.call("birth", self._births.operands.hold, tops, after)
        return True

    def reduce(self, _: ThreadState, captured: CapturedEvent, loss: torch.Tensor) -> bool:
        """Read from the graph how a loss was reduced."""
        self._guard.call("graph", self._losses.reduce, captured, loss)
        return True

    def read(
        self,
        thread_state: ThreadState,
        _: torch.optim.Optimizer,
        window: OptimizerWindow,
        held: list[torch.Tensor],
    ) -> bool:
        """Read the gradients of a step with samples."""
        self._reader.read_again(thread_state, window, held)
        return True

    def look(self, thread_state: ThreadState, optimizer: torch.optim.Optimizer) -> bool:
        """Look at what is looked at in the steps with samples."""
        for look in self._looks:
            look(thread_state, optimizer)
        return True

    def state(
        self, _: ThreadState, optimizer: torch.optim.Optimizer, window: OptimizerWindow
    ) -> bool:
        """Look at what the optimizer remembers."""
        began_s = perf_counter()
        self._steps.look_at_state(window, optimizer)
        self._spent.probes_s += perf_counter() - began_s
        return True

    def xray_backward_begins(self, thread_state: ThreadState, loss: torch.Tensor) -> bool:
        """Have the X-ray hear of a backward in the step that it measures."""
        self._xray.backward_begins(thread_state, loss)
        return True

    def xray_backward_ends(self, thread_state: ThreadState) -> bool:
        """Have it hear of its end."""
        self._xray.backward_ends(thread_state)
        return True

    def xray_step_begins(self, thread_state: ThreadState, optimizer: torch.optim.Optimizer) -> bool:
        """Have it hand on what it has measured."""
        self._xray.step_begins(thread_state, optimizer, False, False)
        return True

    def copy(
        self,
        _: ThreadState,
        optimizer: torch.optim.Optimizer,
        window: OptimizerWindow,
        held: list[torch.Tensor],
        num: int,
    ) -> bool:
        """Have the probe copy slices of so many weights whose turn it is."""
        began_s = perf_counter()
        self._guard.call("probe", window.probe.step_begins, held, False, num, optimizer)
        self._spent.probes_s += perf_counter() - began_s
        return True

    def compare(
        self,
        _: ThreadState,
        optimizer: torch.optim.Optimizer,
        window: OptimizerWindow,
        step: OptimizerStep,
    ) -> bool:
        """Have it compare them with the weights behind the step."""
        began_s = perf_counter()
        step.probed = self._steps.probed(window, optimizer)
        self._spent.probes_s += perf_counter() - began_s
        return True
