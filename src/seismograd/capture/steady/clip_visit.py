"""The short way of a clip."""

from __future__ import annotations

from typing import Any

from seismograd.capture.hooks.clip_grad import NORM, OTHER_NORM
from seismograd.capture.loop.iteration import GradientReading
from seismograd.capture.loop.thread_state import NO_CLIP, RunningClip, ThreadState
from seismograd.capture.rows.applied_norm import AppliedClip
from seismograd.capture.steady.steady_parts import SteadyParts
from seismograd.schema import EventFlag, EventKind
from seismograd.tensors.device_scalars import Scalar


class ClipVisit:
    """Handles what `capture.hooks.clip_grad.ClipHooks` does where all parameters of the only
    optimizer are clipped, in its order, before its step.
    """

    def __init__(self, parts: SteadyParts) -> None:
        self._loop, self._log, self._registry = parts.loop, parts.log, parts.registry
        self._reader, self._backwards = parts.reader, parts.backwards
        self._reductions = parts.reductions

    def clip_begins(self, thread_state: ThreadState, parameters: list[Any]) -> bool:
        """Handle its start, or return `False` and leave everything as it is."""
        loop, registry, reductions = self._loop, self._registry, self._reductions
        window = loop.window
        if (
            window is None
            or not self._backwards.touched
            or registry.open_windows is not loop.windows
            or registry.died
            or window.thread_state is not thread_state
            or window.stepping
            or window.evaluates_again
            or window.clearing.is_used
            or thread_state.loss is not None
            or reductions.since_backward
            or reductions.is_stage
        ):
            return False
        held = window.held()
        ids = list(map(id, held))
        if ids != list(map(id, parameters)):
            return False
        for parameter in held:
            if parameter.grad is not None:
                break
        else:
            return False
        readings: list[GradientReading] = []
        clipping = RunningClip(frozenset(ids), EventFlag.NONE, window.grad_scale, readings)
        thread_state.clipping = clipping
        if window.ready is None:
            self._reader.read_again(thread_state, window, held)
            if window.ready is not None:
                readings.append(window.ready)
        return True

    def clip_ends(
        self,
        thread_state: ThreadState,
        kind: int,
        limit: object,
        total: object,
        is_l2: bool = True,
    ) -> bool:
        """Handle its end, or return `False` and leave everything as it is."""
        loop, registry, clipping = self._loop, self._registry, thread_state.clipping
        window, table = loop.window, registry.parameter_table
        if (
            window is None
            or not clipping.ids
            or clipping.flags
            or registry.open_windows is not loop.windows
            or registry.died
            or window.stepping
            or window.evaluates_again
            or window.plan is None
        ):
            return False
        planned = window.plan
        if (
            planned.version != table.version
            or table.died
            or planned.num_gone != table.known_gone
            or planned.ids != list(map(id, window.held()))
            or not clipping.ids.issuperset(planned.ids)
        ):
            return False
        norm = self._log.scalar(total)
        bound = Scalar(limit) if type(limit) is float else self._log.scalar(limit)
        thread_state.clipping = NO_CLIP
        window.clearing.mark_changed()
        window.clips.append(AppliedClip(planned.positions, norm, bound, kind == NORM))
        captured = self._log.record(
            thread_state,
            EventKind.CLIP,
            window.index,
            value=norm,
            limit=bound,
            detail=kind,
            scale=clipping.scale,
        )
        captured.flags, captured.touched = 0 if is_l2 else OTHER_NORM, window.bit
        return True
