"""Sketch the gradients of an optimizer when it is time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.rows.sketch_schedule import SketchSchedule
from seismograd.measure.sketches.gradient_sketches import GradientSketches, sketch_gradients
from seismograd.tensors.cuda_graph import is_capturing


class GradientSketcher:
    """Sketches at the steps of each optimizer's own schedule. A failure in here leaves out
    nothing but sketches.

    Args:
        guard: keeps failures away from the reading.
        every: number of steps; 0 for never.
    """

    def __init__(self, guard: ErrorGuard, every: int) -> None:
        self._guard, self.every = guard, every
        self._schedules: dict[int, SketchSchedule] = {}  # by the number of the optimizer
        self._cost_s = 0.0

    def is_due(self, window: OptimizerWindow, now_s: float) -> bool:
        """Return whether to sketch the gradients of this step, one of each `every`."""
        schedule = self._schedules.setdefault(window.index, SketchSchedule(self.every))
        return schedule.is_due(window.num_steps, now_s)

    def sketch(self, gradients: Sequence[torch.Tensor]) -> GradientSketches | None:
        """Return the sketches; `None` while a CUDA graph is captured, and after a failure."""
        if is_capturing():
            return None
        began = time.perf_counter()
        sketches = self._guard.call("sketches", sketch_gradients, gradients)
        self._cost_s = time.perf_counter() - began
        return sketches

    def sketched(self, window: OptimizerWindow) -> None:
        """Account for the sketches of this step."""
        self._schedules[window.index].took(window.num_steps, time.perf_counter(), self._cost_s)
