"""`Optimizer.zero_grad` and `Module.zero_grad`: the patch, and what a call means. Gradients cleared
in any other way are noticed by inspecting them.

Several optimizers may hold the same tensors, as the outer and the inner ones of Reptile: the call
of one clears the windows of all whose gradients these are.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.enclosing_steps import stepping
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import parameters_below
from seismograd.schema import EventFlag, EventKind

BY_OPTIMIZER, BY_MODULE = 1, 2
USED, EMPTY = int(EventFlag.USED), int(EventFlag.EMPTY)


class ZeroGradHooks:
    """Handles `zero_grad`: marks every window whose gradients it cleared."""

    def __init__(self, log: EventLog, registry: OptimizerRegistry) -> None:
        self._log, self._registry = log, registry

    def zero_grad_ends(self, thread_state: ThreadState, owner: Any) -> None:
        """Handle gradients cleared by an optimizer or a module."""
        if isinstance(owner, torch.optim.Optimizer):
            # nearly always it is known
            window = self._registry.known(owner) or self._registry.window(owner)
            cleared = [] if window is None else [window]
            others = [] if window is None else self._over_the_same(window, thread_state)
            detail = BY_OPTIMIZER
        else:
            ids = {id(p) for p in parameters_below(owner)}
            cleared = [
                w for w in self._registry if (held := w.held()) and all(id(p) in ids for p in held)
            ]
            others = []
            detail = BY_MODULE
        were_empty = were_used = True
        touched = within = 0
        for window in cleared:
            were_empty = were_empty and window.clearing.is_empty
            were_used = were_used and window.clearing.is_used
            if window.stepping:  # unless its step has raised
                stepping(cleared, thread_state)
        for window in cleared:
            if window.stepping:
                within |= window.flags_within()
            touched |= window.bit
            window.thread_state = thread_state
            window.cleared()
        if cleared or (detail == BY_MODULE and self._registry.all_of_the_process):
            captured = self._log.record(
                thread_state,
                EventKind.ZERO_GRAD,
                cleared[0].index if len(cleared) == 1 else -1,
                detail=detail,
            )
            flags = EMPTY if were_empty else USED if were_used else 0
            for window in others:
                touched |= window.bit
                window.cleared()
            captured.flags, captured.touched = flags | within, touched

    def _over_the_same(
        self, window: OptimizerWindow, thread_state: ThreadState
    ) -> list[OptimizerWindow]:
        """Return the windows of other optimizers that hold no tensor but those of this one, and
        have gradients in them. One that is stepping counts once it has evaluated the loss: it makes
        the step of this one within its own, and evaluates again (GSAM).
        """
        windows = self._registry.windows
        if len(windows) < 2:
            return []
        waiting = [
            each
            for each in windows
            if each is not window
            and each.num_backwards
            and (each.evaluated or not each.stepping)
            and each.thread_state in (None, thread_state)
        ]
        if any(each.stepping for each in waiting):
            within = stepping(waiting, thread_state)
            waiting = [each for each in waiting if each in within or not each.evaluated]
        if not waiting:
            return []
        ids = set(map(id, window.held()))
        return [w for w in waiting if (held := w.held()) and ids.issuperset(map(id, held))]


def _wrap(hub: EventHub, original: Any) -> Any:
    @wraps(original)
    def zero_grad(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        result = original(self, *args, **kwargs)
        hub.zero_grad_ends(self)
        return result

    return zero_grad


def install(hub: EventHub) -> Undo:
    """Report every `zero_grad` to the hub, once it has cleared."""
    return undo_all(
        [
            replace(c, "zero_grad", _wrap(hub, vars(c)["zero_grad"]))
            for c in (torch.optim.Optimizer, torch.nn.Module)
        ]
    )
