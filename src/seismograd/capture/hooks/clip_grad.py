"""`clip_grad_norm_`, `clip_grad_value_` and `clip_grads_with_norm_`, under both names that torch
gives them: the patch, and what a call means. The ready gradients are read before a clip; the norm
that it found and its limit are recorded after it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import GeneratorType
from typing import Any

import torch
from torch.nn import utils
from torch.nn.utils import clip_grad

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.enclosing_steps import stepping
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import NO_CLIP, RunningClip, ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.applied_norm import AppliedClip
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.rows.window_columns import columns_of
from seismograd.schema import EventFlag, EventKind
from seismograd.tensors.device_scalars import Scalar


class ClipHooks:
    """Handles clips of all windows that hold any of the parameters."""

    def __init__(
        self,
        log: EventLog,
        registry: OptimizerRegistry,
        reader: GradientReader,
        step_by_hand: Callable[[ThreadState], None],
    ) -> None:
        self._log, self._registry, self._reader = log, registry, reader
        self._step_by_hand = step_by_hand

    def clip_begins(self, thread_state: ThreadState, parameters: list[Any]) -> None:
        """Read the gradients before the clip: one NaN in it would make every gradient NaN."""
        # a later clip acts on gradients that the step has already used
        self._step_by_hand(thread_state)
        ids = frozenset(map(id, parameters))
        concerned = self._registry.holding(ids)
        are_used = bool(concerned)
        for window in concerned:
            are_used = are_used and window.clearing.is_used
            if window.stepping:  # unless its step has raised
                stepping(concerned, thread_state)
        flags, scales = (
            EventFlag.NONE,
            [w.grad_scale for w in concerned if w.grad_scale is not None],
        )
        for parameter in parameters:
            if getattr(parameter, "grad", None) is not None:
                flags = EventFlag.USED if are_used else EventFlag.NONE
                break
        else:
            if not any(window.partition for window in concerned):
                flags = EventFlag.EMPTY
        thread_state.clipping = RunningClip(ids, flags, scales[0] if scales else None)
        for window in concerned:
            if not window.stepping:
                self._reader.take_reduction(window)
            if window.ready is None and not flags and not window.evaluates_again:
                self._reader.read(thread_state, window)
                if window.ready is not None:
                    thread_state.clipping.readings.append(window.ready)

    def clip_ends(
        self,
        thread_state: ThreadState,
        kind: int,
        limit: object,
        total: object,
        is_l2: bool = True,
    ) -> None:
        """Record the norm that the clip found and its limit."""
        norm = self._log.scalar(total)
        bound = Scalar(limit) if type(limit) is float else self._log.scalar(limit)
        clipping, thread_state.clipping = thread_state.clipping, NO_CLIP
        ids = clipping.ids
        concerned = self._registry.holding(ids)
        touched = within = 0
        for window in concerned:
            if window.stepping:
                within |= window.flags_within()
            if not window.by_hand:
                touched |= window.bit
            if not clipping.flags:
                self._clipped(
                    thread_state,
                    window,
                    AppliedClip(
                        columns_of(ids, window, self._registry.parameter_table),
                        norm,
                        bound,
                        kind == NORM,
                    ),
                )
        index = concerned[0].index if len(concerned) == 1 else -1
        captured = self._log.record(
            thread_state,
            EventKind.CLIP,
            index,
            value=norm,
            limit=bound,
            detail=kind,
            scale=clipping.scale,
        )
        captured.flags, captured.touched = (
            int(clipping.flags) | within | (0 if is_l2 else OTHER_NORM),
            touched,
        )

    def _clipped(
        self, thread_state: ThreadState, window: OptimizerWindow, clip: AppliedClip
    ) -> None:
        """Mark the window as clipped. For a step that evaluates several times the first clip
        counts, as for reading.
        """
        window.clearing.mark_changed()
        if window.evaluates_again:
            return
        window.clips.append(clip)
        if (window.stepping or window.by_hand) and not all(each.by_norm for each in window.clips):
            window.applied = self._reader.applied(thread_state, window)


NORM, VALUE = 1, 2
OTHER_NORM = int(EventFlag.OTHER_NORM)
KINDS = {"clip_grad_norm_": NORM, "clip_grads_with_norm_": NORM, "clip_grad_value_": VALUE}


def _listed(parameters: Any) -> tuple[list[Any], Any]:
    """Return the parameters as a list, and an object to pass on in their place: a generator can be
    read only once.
    """
    if isinstance(parameters, torch.Tensor):
        return [parameters], parameters
    listed: list[Any] = list(parameters)
    return listed, (p for p in listed) if isinstance(parameters, GeneratorType) else listed


def wrap(hub: EventHub, original: Any, name: str) -> Any:
    """Return a clip of this name that is reported to the hub."""
    kind = KINDS[name]

    @wraps(original)
    def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not hub.listening:
            return original(parameters, *args, **kwargs)
        listed, parameters = _listed(parameters)
        hub.clip_begins(listed)
        result = original(parameters, *args, **kwargs)
        limit = kwargs.get(
            "clip_value" if kind == VALUE else "max_norm", args[0] if args else float("nan")
        )
        total = (
            result
            if result is not None
            else kwargs.get("total_norm", args[1] if kind == NORM and len(args) > 1 else None)
        )
        positional = args[1] if name == "clip_grad_norm_" and len(args) > 1 else 2.0
        order = kwargs.get("norm_type", positional)
        hub.clip_ends(kind, limit, total, kind != NORM or order == 2.0)
        return result

    return clip


def install(hub: EventHub) -> Undo:
    """Report every clip to the hub: before it, so that the gradients can be read first, and after
    it.
    """
    undos: list[Undo] = []
    for name in KINDS:
        original = vars(utils).get(name)
        if original is None:  # clip_grads_with_norm_ was added in torch 2.6
            continue
        wrapper = wrap(hub, original, name)
        undos += [
            replace(owner, name, wrapper)
            for owner in (clip_grad, utils)
            if vars(owner).get(name) is original
        ]
    return undo_all(undos)
