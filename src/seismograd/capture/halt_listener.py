"""Call back where a training may be stopped: at the events behind the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seismograd.capture.events import Listener


class HaltListener(Listener):
    """Attached behind the session, so that the session has already handled the call.

    Args:
        backward_begins: called when a backward begins.
        step_begins: called when an optimizer is about to step.
        abandon: called in a forked child.
    """

    def __init__(
        self,
        backward_begins: Callable[[], None],
        step_begins: Callable[[], None],
        abandon: Callable[[], None],
    ) -> None:
        self._backward_begins, self._step_begins = backward_begins, step_begins
        self._abandon = abandon

    def backward_begins(self, tensors: Any) -> None:
        """Ask before the backward."""
        del tensors
        self._backward_begins()

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """Ask before the update."""
        del optimizer, closure, compiled
        self._step_begins()

    def abandon(self) -> None:
        """Leave it to the parent."""
        self._abandon()
