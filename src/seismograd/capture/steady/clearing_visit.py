"""The short way of `zero_grad`."""

from __future__ import annotations

from typing import Any

from seismograd.capture.hooks.zero_grad import BY_OPTIMIZER, EMPTY, USED
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.steady.steady_parts import SteadyParts
from seismograd.measure.native import tensor_reads
from seismograd.schema import EventKind


class ClearingVisit:
    """Handles what `capture.hooks.zero_grad.ZeroGradHooks` does where the only optimizer clears its
    gradients.
    """

    def __init__(self, parts: SteadyParts) -> None:
        self._loop, self._log, self._registry = parts.loop, parts.log, parts.registry

    def zero_grad_ends(self, thread_state: ThreadState, owner: Any) -> bool:
        """Handle it, or return `False` and leave everything as it is."""
        loop, registry = self._loop, self._registry
        window = loop.window
        if (
            window is None
            or owner is not loop.optimizer()
            or window.stepping
            or registry.open_windows is not loop.windows
            or registry.died
        ):
            return False
        clearing = window.clearing
        flags = EMPTY if clearing.last == clearing.none else USED if clearing.is_used else 0
        window.thread_state = thread_state
        # what `OptimizerWindow.cleared` does outside of a step
        window.losses, window.clips, window.num_backwards = [], [], 0
        window.ready = window.applied = None
        if not window.per_loss.is_clear:
            window.per_loss.clear()
        clearing.carried, clearing.is_used = clearing.not_carried, False
        clearing.last = tensor_reads.marks(clearing.parameters)
        captured = self._log.record(
            thread_state, EventKind.ZERO_GRAD, window.index, detail=BY_OPTIMIZER
        )
        captured.flags, captured.touched = flags, window.bit
        return True
