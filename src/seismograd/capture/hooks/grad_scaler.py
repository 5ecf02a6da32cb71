"""`GradScaler.scale`, `unscale_`, `step` and `update`: the patch, and what a call means; also the
total weight that `seismograd.control` divides by.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.step_record import record_step
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.schema import EventKind, StepFlag
from seismograd.tensors.device_scalars import Scalar

SHARDED = "torch.distributed.fsdp.sharded_grad_scaler"


class ScalerHooks:
    """Keeps track of the factor that losses and gradients are multiplied by, and of the steps that
    are skipped for it.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        log: EventLog,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        reader: GradientReader,
        births: BirthObserver,
    ) -> None:
        self._guard, self._log, self._registry, self._reader = guard, log, registry, reader
        self._iteration_queue, self._births = iteration_queue, births

    def scaled(self, thread_state: ThreadState, scaler: Any) -> None:
        """Note that the next backward is of a loss multiplied by the scale."""
        if scaler.is_enabled():
            thread_state.loss_scale = self._log.scalar(scaler._scale)

    def unscale_ends(self, thread_state: ThreadState, scaler: Any, optimizer: Any) -> None:
        """Read the gradients now that the scale has been divided out: they are ready."""
        window = self._registry.window(optimizer)
        if window is None or not scaler.is_enabled():
            return
        for each in self._unscaled_with(window):
            each.grad_scale = None
            each.clearing.mark_changed()
        self._log.record(
            thread_state, EventKind.UNSCALE, window.index, value=self._log.scalar(scaler._scale)
        )
        if window.ready is None:
            self._reader.read(thread_state, window)

    def _unscaled_with(self, window: OptimizerWindow) -> list[OptimizerWindow]:
        """Return the window, and those of optimizers that it steps on parts of its parameters."""
        windows = self._registry.windows
        if len(windows) == 1:
            return [window]
        ids = frozenset(map(id, window.held()))
        return [
            each
            for each in self._registry.holding(ids)
            if each is window or ids.issuperset(map(id, each.held()))
        ]

    def scaler_step_begins(self, _: ThreadState, optimizer: Any) -> None:
        """Remember how many steps were made, to see whether this one is skipped."""
        window = self._registry.window(optimizer)
        if window is not None:
            window.steps_before_scaler = window.num_steps

    def scaler_step_ends(self, thread_state: ThreadState, scaler: Any, optimizer: Any) -> None:
        """Record a step that the scaler skipped, with the gradients that caused it."""
        window = self._registry.known(optimizer)
        if (
            window is None
            or not scaler.is_enabled()
            or window.num_steps != window.steps_before_scaler
        ):
            return
        if thread_state.iteration.has_stepped(window.index):
            self._iteration_queue.end_iteration(thread_state)
        self._guard.call("birth", self._births.step_skipped, window)
        table = self._registry.parameter_table
        record_step(self._log, table, thread_state, window, optimizer, StepFlag.SKIPPED, None)
        window.were_used()
        window.restart()

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
    skips; also those of the scaler for sharded gradients, which has methods of its own.
    """
    scaler_class = torch.amp.GradScaler
    undos = [_install_one(hub, scaler_class), _install_init(hub, scaler_class)]

    def install_late() -> Undo | None:
        kind = vars(sys.modules[SHARDED]).get("ShardedGradScaler")
        return _install_one(hub, kind) if isinstance(kind, type) else None

    hub.late[SHARDED] = install_late
    hub.install_late()
    return undo_all(undos)


def _install_init(hub: EventHub, scaler_class: type[Any]) -> Undo:
    """Have the patches of what the program has imported by now installed before the first loss is
    scaled.
    """
    original = vars(scaler_class)["__init__"]

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if SHARDED in hub.late:
            hub.install_late()
        original(self, *args, **kwargs)

    return replace(scaler_class, "__init__", __init__)


def _install_one(hub: EventHub, scaler_class: type[Any]) -> Undo:
    """Patch those of the methods that a class has itself."""
    own: Mapping[str, Any] = vars(scaler_class)

    def scale(self: Any, outputs: Any) -> Any:
        result = own_scale(self, outputs)
        hub.scaled(self)
        return result

    def unscale_(self: Any, optimizer: Any) -> None:
        hub.unscaling.add(thread := threading.get_ident())
        try:
            own_unscale(self, optimizer)
        finally:
            hub.unscaling.discard(thread)
        hub.unscale_ends(self, optimizer)

    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        hub.scaler_step_begins(optimizer)
        result = own_step(self, optimizer, *args, **kwargs)
        hub.scaler_step_ends(self, optimizer)
        return result

    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        own_update(self, *args, **kwargs)
        hub.scaler_updated(self)

    own_scale: Any = own.get("scale")
    own_unscale: Any = own.get("unscale_")
    own_step: Any = own.get("step")
    own_update: Any = own.get("update")
    wrappers: dict[str, Callable[..., Any]] = {
        "scale": scale,
        "unscale_": unscale_,
        "step": step,
        "update": update,
    }
    return undo_all(
        [
            replace(scaler_class, name, wraps(own[name])(wrapper))
            for name, wrapper in wrappers.items()
            if name in own
        ]
    )
