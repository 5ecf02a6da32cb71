"""What a steady step does only now and then, where its visits are made in C: Python does it, and
nothing else of the visit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.graph.loss_observer import LossObserver
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.iteration import CapturedEvent, OptimizerStep
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.rows.gradient_reader import GradientReader


class RareParts:
    """Each method returns `True`: it has handled what it was called for. Those of a step are given
    its optimizer first, as what is told of a step that an exception breaks off.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        births: BirthObserver,
        losses: LossObserver,
        steps: StepHooks,
        spent: MeasuringTime,
        reader: GradientReader,
        looks: Sequence[Callable[[ThreadState, Any], None]],
        parameter_table: ParameterTable,
    ) -> None:
        self._guard, self._births, self._losses = guard, births, losses
        self._steps, self._spent, self._reader = steps, spent, reader
        self._looks, self._table = looks, parameter_table  # looks of the steps with samples

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

    def look_for(self, _: ThreadState, __: torch.optim.Optimizer) -> bool:
        """Look for parameters that are trained by now, and for new ones."""
        self._table.look_for_thawed()
        self._table.look_for_added()
        return True

    def look(self, thread_state: ThreadState, optimizer: torch.optim.Optimizer) -> bool:
        """Look at what is looked at in the steps with samples."""
        for look in self._looks:
            look(thread_state, optimizer)
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
