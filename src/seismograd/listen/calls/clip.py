"""Clipping: before it the ready gradients are read, after it the norm that it found and its limit are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seismograd.listen.applied import Clip
from seismograd.listen.calls.within import stepping
from seismograd.listen.lanes import Clipping, Lane
from seismograd.listen.log import Log
from seismograd.listen.patches.clip import NORM
from seismograd.listen.reader import Reader
from seismograd.listen.reading import columns_of
from seismograd.listen.registry import Registry
from seismograd.listen.windows import Window
from seismograd.schema import EventFlag, EventKind


class Clips:
    """Of the windows that hold any of the parameters."""

    def __init__(self, log: Log, registry: Registry, reader: Reader, step_by_hand: Callable[[Lane], None]) -> None:
        self._log, self._registry, self._reader = log, registry, reader
        self._step_by_hand = step_by_hand

    def clip_begins(self, lane: Lane, parameters: list[Any]) -> None:
        """Read before the clip: one NaN in it would make every gradient NaN."""
        self._step_by_hand(lane)  # a clip after it is of gradients that it has used
        ids = frozenset(id(p) for p in parameters)
        concerned = self._registry.holding(ids)
        stepping(concerned, lane)
        flags, scales = EventFlag.NONE, [w.grad_scale for w in concerned if w.grad_scale is not None]
        if all(getattr(p, "grad", None) is None for p in parameters):
            flags = EventFlag.EMPTY
        elif concerned and all(w.clearing.used() for w in concerned):
            flags = EventFlag.USED
        lane.clipping = Clipping(ids, flags, scales[0] if scales else None)
        for window in concerned:
            if window.ready is None and not flags and not window.evaluates_again:
                self._reader.read(lane, window)
                if window.ready is not None:
                    lane.clipping.readings.append(window.ready)

    def clip_ends(self, lane: Lane, kind: int, limit: object, total: object) -> None:
        """Note the norm it found and its limit."""
        norm, bound = self._log.scalar(total), self._log.scalar(limit)
        clipping, lane.clipping = lane.clipping, Clipping()
        ids = clipping.ids
        concerned = self._registry.holding(ids)
        within = 0
        for window in concerned:
            within |= window.flags_within()
            if not clipping.flags:
                self._clipped(lane, window, Clip(columns_of(ids, window, self._registry.roster), norm, bound, kind == NORM))
        index = concerned[0].index if len(concerned) == 1 else -1
        heard = self._log.heard(lane, EventKind.CLIP, index, value=norm, limit=bound, detail=kind, scale=clipping.scale)
        heard.flags, heard.touched = int(clipping.flags) | within, sum(w.bit for w in concerned if not w.by_hand)

    def _clipped(self, lane: Lane, window: Window, clip: Clip) -> None:
        """The window has been clipped. Of a step that evaluates several times the first one counts, as for what is read."""
        window.clearing.known()
        if window.evaluates_again:
            return
        window.clips.append(clip)
        if (window.stepping or window.by_hand) and not all(each.by_norm for each in window.clips):
            window.applied = self._reader.reading(lane, window, sample=False)
