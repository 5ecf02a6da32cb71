"""`zero_grad` of an optimizer or a module."""

from __future__ import annotations

from typing import Any

import torch

from seismograd.listen.calls.within import stepping
from seismograd.listen.lanes import Lane
from seismograd.listen.log import Log
from seismograd.listen.registry import Registry
from seismograd.schema import EventFlag, EventKind

BY_OPTIMIZER, BY_MODULE = 1, 2
USED, EMPTY = int(EventFlag.USED), int(EventFlag.EMPTY)


class Clearings:
    """Of the windows whose gradients it clears, all of them."""

    def __init__(self, log: Log, registry: Registry) -> None:
        self._log, self._registry = log, registry

    def zero_grad_ends(self, lane: Lane, owner: Any) -> None:
        """Gradients were cleared by an optimizer or a module."""
        if isinstance(owner, torch.optim.Optimizer):
            window = self._registry.window(owner)
            cleared = [] if window is None else [window]
            detail = BY_OPTIMIZER
        else:
            ids = {id(p) for p in owner.parameters()}
            cleared = [w for w in self._registry if (held := w.held()) and all(id(p) in ids for p in held)]
            detail = BY_MODULE
        flags = 0
        if all(w.clearing.empty() for w in cleared):
            flags = EMPTY
        elif all(w.clearing.used() for w in cleared):
            flags = USED
        stepping(cleared, lane)
        within = 0
        for window in cleared:
            within |= window.flags_within()
            window.lane = lane
            window.cleared()
        if cleared or (detail == BY_MODULE and self._registry.all_of_the_process):
            heard = self._log.heard(lane, EventKind.ZERO_GRAD, cleared[0].index if len(cleared) == 1 else -1, detail=detail)
            heard.flags, heard.touched = flags | within, sum(w.bit for w in cleared)
