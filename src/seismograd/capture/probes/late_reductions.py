"""Detect gradients that are reduced over processes after they were clipped."""

from __future__ import annotations

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.schema import EventKind, FactKind


class LateReductions:
    """Reports them, the first and later ones ever more rarely."""

    def __init__(self, facts: Facts) -> None:
        self._facts, self._num = facts, 0

    def report(self, thread_state: ThreadState, window: OptimizerWindow) -> None:
        """Report the first clip of a window whose gradients were reduced since."""
        clip = window.clips[0]
        self._num += 1
        if is_looked_at(self._num):
            clips = [e for e in thread_state.iteration.events if e.kind == EventKind.CLIP]
            self._facts.report(
                FactKind.REDUCED_AFTER_CLIP,
                site=clips[-1].site if clips else -1,
                optimizer=window.index,
                norm=clip.norm.read(),
                limit=clip.limit.read(),
                times=self._num,
            )
