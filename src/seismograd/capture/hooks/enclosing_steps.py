"""Find the steps that a call was made within."""

from __future__ import annotations

from collections.abc import Iterable

from seismograd.capture.hooks.step_frames import is_inside_a_step
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState


def stepping(
    windows: Iterable[OptimizerWindow], thread_state: ThreadState
) -> list[OptimizerWindow]:
    """Return those of the windows whose step this thread is inside of.

    A step that raised never reported its end: it counts as over when a call comes from outside any
    step.
    """
    found = [
        window for window in windows if window.stepping and window.thread_state is thread_state
    ]
    if found and not is_inside_a_step():
        for window in found:
            window.step_raised()
        return []
    return found
