"""What a clip by norm does not cover, and what is reduced only after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import FactKind

MAX_NAMES = 4096


class ClipCoverage:
    """Reports which parameters of an optimizer its clips leave out, when that is new or changes."""

    def __init__(self, facts: Facts, registry: OptimizerRegistry) -> None:
        self._facts, self._registry = facts, registry
        self._reported: dict[int, tuple[str, ...]] = {}

    def step_begins(
        self, _state: ThreadState, optimizer: Any, _closure: bool, _compiled: bool
    ) -> None:
        """Compare what was clipped with what the optimizer is about to use."""
        window = self._registry.known(optimizer)
        if window is None or not window.clips:
            return
        held = window.held()
        is_whole = False
        for clip in window.clips:  # a generator would be several calls
            if not clip.by_norm:
                return
            if len(clip.columns) == len(held):
                is_whole = True
        names = () if is_whole else self._left_out(window)
        if names != self._reported.get(window.index, ()):
            self._reported[window.index] = names
            self._facts.report(
                FactKind.CLIP_LEAVES_OUT,
                optimizer=window.index,
                parameters=names[:MAX_NAMES],
                num=len(names),
                held=len(held),
            )

    def _left_out(self, window: OptimizerWindow) -> tuple[str, ...]:
        table = self._registry.parameter_table
        clipped = set(np.concatenate([clip.columns for clip in window.clips]).tolist())
        columns = [table.column(p) for p in window.held() if p.grad is not None and p in table]
        return tuple(table.parameters[c].name for c in columns if c not in clipped)
