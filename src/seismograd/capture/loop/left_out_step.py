"""A step that has begun and is not made, because the guard leaves its update out."""

from __future__ import annotations

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.step_record import complete_step
from seismograd.schema import StepFlag
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.readable import is_readable

GUARDED = int(StepFlag.GUARDED | StepFlag.SKIPPED)


def leave_out(window: OptimizerWindow) -> None:
    """Clear the gradients of a step that has begun and will not be made."""
    with without_user_modes():
        for parameter in window.held():
            gradient = parameter.grad
            if gradient is not None and is_readable(gradient):
                gradient.zero_()
    window.is_left_out = True


def end_left_out(window: OptimizerWindow) -> None:
    """Complete the record of a step that was left out, and begin a new window."""
    if window.step is not None:
        complete_step(window, window.step, None)
        window.step.flags = StepFlag(int(window.step.flags) | GUARDED)
    window.probe.forget()
    window.were_used()
    window.clearing.cleared()
    window.restart()
