"""Know whether a training is what nearly all are: one optimizer of torch, stepped by one thread."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from seismograd.capture.loop.clearing_tracker import ClearingTracker
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry


def _gone() -> torch.optim.Optimizer | None:
    return None


class SteadyLoop:
    """What the last step has shown that went the full way. A visit may go the short way while all
    of it is still so, which it sees by identities: `windows` is what the registry has as long as
    no optimizer comes or goes.
    """

    def __init__(self, registry: OptimizerRegistry) -> None:
        self._registry = registry
        self.window: OptimizerWindow | None = None  # of the only optimizer
        self.windows: tuple[OptimizerWindow, ...] = ()
        # as a reference, because no optimizer may be kept alive
        self.optimizer: Any = _gone
        self.is_observed = False  # something hears of all visits: none goes the short way

    def observe(self, is_observed: bool) -> None:
        """Have all visits go the full way for a while, or no longer."""
        self.is_observed, self.window = is_observed, None

    def step_ends(self, thread_state: ThreadState, optimizer: torch.optim.Optimizer) -> None:
        """Look whether the training is such a one, behind a step that went the full way."""
        self.window = None
        windows = self._registry.windows
        window = self._registry.known(optimizer)
        if (
            window is None
            or self.is_observed
            or windows != (window,)
            or self._registry.has_by_hand
            or window.thread_state is not thread_state
            or window.partition is not None
            # not of a subclass, which knows better
            or type(window.clearing) is not ClearingTracker
            or window.stepping
        ):
            return
        self.windows, self.optimizer = windows, weakref.ref(optimizer)
        self.window = window  # last, as an exception of the program's may arrive before
