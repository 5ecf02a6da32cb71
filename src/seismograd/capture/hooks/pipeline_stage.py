"""Stages of `torch.distributed.pipelining`, whose schedule divides the gradients by the number of
micro-batches after the last of them: the patch, and what a call means.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace as changed
from functools import wraps
from typing import Any

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import parameters_below
from seismograd.schema import EventFlag, EventKind
from seismograd.tensors.device_scalars import Scalar

MODULE, CLASS, METHOD = "torch.distributed.pipelining.stage", "_PipelineStageBase", "scale_grads"


class PipelineStageHooks:
    """Handles the division: each loss of the window counts for one part of the gradient."""

    def __init__(self, log: EventLog, registry: OptimizerRegistry) -> None:
        self._log, self._registry = log, registry

    def stage_scaled(self, state: ThreadState, parameters: list[Any], divisor: float) -> None:
        """Divide the losses that were backpropagated, as their gradients were."""
        windows = self._registry.holding(frozenset(map(id, parameters)))
        bits = 0
        for window in windows:
            window.clearing.mark_changed()
            if not window.clips:
                window.ready = None
            window.losses = [self._part(loss, divisor) for loss in window.losses]
            bits |= window.bit
        for event in state.iteration.events:
            if event.kind == EventKind.BACKWARD and event.touched & bits:
                event.flags |= int(EventFlag.RESCALED)
                if event.reduction is not None:
                    weight = event.reduction.weight.over(divisor)
                    event.reduction = changed(event.reduction, weight=weight)

    def _part(self, loss: Scalar, divisor: float) -> Scalar:
        if loss.tensor is not None:
            return self._log.scalar(loss.tensor / divisor)
        return Scalar(loss.read() / divisor) if loss.known else loss


def install(hub: EventHub) -> Undo:
    """Report to the hub that a stage has divided its gradients, once it has been imported."""

    def late() -> Undo | None:
        stage = vars(sys.modules[MODULE]).get(CLASS)
        original = getattr(stage, "__dict__", {}).get(METHOD)
        if stage is None or original is None:  # before torch 2.6
            return None
        return replace(stage, METHOD, _wrap(hub, original))

    hub.late[MODULE] = late
    return lambda: None


def _wrap(hub: EventHub, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def scale_grads(self: Any, grad_scale_factor: float) -> Any:
        result = original(self, grad_scale_factor)
        if hub.listening and grad_scale_factor != 1:
            hub.stage_scaled(list(parameters_below(self.submod)), float(grad_scale_factor))
        return result

    return scale_grads
