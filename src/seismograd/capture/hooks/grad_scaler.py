"""`GradScaler.scale`, `unscale_`, `step` and `update`: the patch, and what a call means; also the
total weight that `seismograd.control` divides by.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.schema import EventKind
from seismograd.tensors.device_scalars import Scalar


class ScalerHooks:
    """Keeps track of the factor that losses and gradients are multiplied by."""

    def __init__(self, log: EventLog, registry: OptimizerRegistry, reader: GradientReader) -> None:
        self._log, self._registry, self._reader = log, registry, reader

    def scaled(self, thread_state: ThreadState, scaler: Any) -> None:
        """Note that the next backward is of a loss multiplied by the scale."""
        if scaler.is_enabled():
            thread_state.loss_scale = self._log.scalar(scaler._scale)

    def unscale_ends(self, thread_state: ThreadState, scaler: Any, optimizer: Any) -> None:
        """Read the gradients now that the scale has been divided out: they are ready."""
        window = self._registry.window(optimizer)
        if window is None or not scaler.is_enabled():
            return
        window.grad_scale = None
        window.clearing.mark_changed()
        self._log.record(
            thread_state, EventKind.UNSCALE, window.index, value=self._log.scalar(scaler._scale)
        )
        if window.ready is None:
            self._reader.read(thread_state, window)

    def scaler_updated(self, thread_state: ThreadState, scaler: Any) -> None:
        """Note that the scale may have changed."""
        if scaler.is_enabled():
            self._log.record(
                thread_state, EventKind.SCALER_UPDATE, value=self._log.scalar(scaler._scale)
            )

    def weighted(self, thread_state: ThreadState, scale: Scalar) -> None:
        """Note that the next backward is of a loss multiplied by its weight; `scale` will be the
        total weight, once that is known.
        """
        thread_state.loss_scale = scale

    def normalised(self, _: ThreadState, parameters: list[Any], scale: Scalar | None) -> None:
        """Read the gradients of a window that were divided by the total weight over all processes:
        they are ready except for `scale`.
        """
        for window in self._registry.holding(frozenset(id(p) for p in parameters)):
            # a process without a micro-batch gets its gradients from the others
            window.clearing.backward_ends()
            window.clearing.mark_changed()
            # a collective before the division may have been taken for the norm of a clip
            window.ready = None
            window.grad_scale = scale


def install(hub: EventHub) -> Undo:
    """Report the loss scale to the hub, the moment it is divided out, and the steps that the scaler
    skips.
    """
    scaler_class = torch.amp.GradScaler
    originals = {name: vars(scaler_class)[name] for name in ("scale", "unscale_", "step", "update")}

    @wraps(originals["scale"])
    def scale(self: Any, outputs: Any) -> Any:
        result = originals["scale"](self, outputs)
        hub.scaled(self)
        return result

    @wraps(originals["unscale_"])
    def unscale_(self: Any, optimizer: Any) -> None:
        originals["unscale_"](self, optimizer)
        hub.unscale_ends(self, optimizer)

    @wraps(originals["step"])
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        hub.scaler_step_begins(optimizer)
        result = originals["step"](self, optimizer, *args, **kwargs)
        hub.scaler_step_ends(self, optimizer)
        return result

    @wraps(originals["update"])
    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        originals["update"](self, *args, **kwargs)
        hub.scaler_updated(self)

    wrappers = {"scale": scale, "unscale_": unscale_, "step": step, "update": update}
    return undo_all([replace(scaler_class, name, wrapper) for name, wrapper in wrappers.items()])
