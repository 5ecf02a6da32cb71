"""Learn what a training has loaded before its first step, which shows where an earlier record goes
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch

from seismograd.capture.events import Listener
from seismograd.capture.loop.error_guard import ErrorGuard


class ResumeListener(Listener):
    """Attached before the session, so that its first step has the right number.

    Args:
        guard: keeps failures away from the training.
        loaded: called with the updates that an optimizer had made when its state was saved, `None`
            where that does not say it, and for the state of a module.
        found: called at the first step with the updates that its optimizer has made: its state may
            have been loaded before anybody listened.
        begins: called when a backward or an update begins; may raise `TrainingHalted`.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        loaded: Callable[[int | None], None],
        found: Callable[[int | None], None],
        begins: Callable[[], None],
    ) -> None:
        self._guard, self._loaded, self._found, self._begins = guard, loaded, found, begins
        self._has_stepped = False

    def state_loads(self, owner: Any, state: object) -> None:
        """Take what is loaded."""
        self._guard.call("resume", self._take, owner, state)

    def _take(self, owner: Any, state: object) -> None:
        is_optimizer = isinstance(owner, torch.optim.Optimizer)
        self._loaded(updates_in(state) if is_optimizer else None)

    def backward_begins(self, tensors: Any) -> None:
        """Note that the training begins."""
        del tensors
        self._begins()

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """Look at what the first optimizer holds."""
        del closure, compiled
        if not self._has_stepped:
            self._has_stepped = True
            self._guard.call("resume", self._look, optimizer)
        self._begins()

    def _look(self, optimizer: Any) -> None:
        self._found(updates_in({"state": getattr(optimizer, "state", None)}))


def updates_in(state: object) -> int | None:
    """Return how many updates the optimizer had made whose saved state this is; `None` where it
    does not say.
    """
    if not isinstance(state, dict):
        return None
    per_parameter = cast("dict[str, Any]", state).get("state")
    if not isinstance(per_parameter, dict):
        return None
    counts = list(_counts(cast("dict[Any, Any]", per_parameter).values()))
    return max(counts, default=None)


def _counts(states: Iterable[Any]) -> Iterable[int]:
    for each in states:
        step = cast("dict[str, Any]", each).get("step") if isinstance(each, dict) else None
        if isinstance(step, torch.Tensor):
            # Only a plain one: reading another may be a call that all processes make together.
            is_plain = type(step) is torch.Tensor and step.numel() == 1 and not step.is_meta
            step = step.item() if is_plain else None
        if isinstance(step, int | float) and 0 < step < 2**53:
            yield int(step)
