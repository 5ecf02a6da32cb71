"""Backwards that `torch.compile` has compiled along with the loss, which no patch intercepts."""

from __future__ import annotations

import sys
from collections.abc import Callable

from seismograd.capture.loop.thread_state import ThreadState
from seismograd.i18n import say
from seismograd.schema import EventKind, Note


class CompiledBackwards:
    """Recognizes steps whose backward was compiled, and reports the first.

    Args:
        note: takes the message.
        number: returns the current iteration's number.
    """

    def __init__(self, note: Callable[[Note], None], number: Callable[[], int]) -> None:
        self._note, self._number = note, number
        self._is_reported = False

    def explain(self, thread_state: ThreadState, compiled: bool) -> bool:
        """Return whether a compiled backward must have made the gradients of a step for which none
        was intercepted; `compiled`: the step itself is.
        """
        if not (compiled or _has_compiled()) or not _is_each_attributed(thread_state):
            return False
        if not self._is_reported:
            self._is_reported = True
            message = say(
                "backward is compiled, so neither backward nor a clip compiled with it can be "
                "recorded: losses are unknown, and the recorded gradients are those that step was "
                "given, after any clip"
            )
            self._note(Note("unheard", self._number(), message))
        return True


def _has_compiled() -> bool:
    """Return whether `torch.compile` has compiled anything in this process, as far as its counters
    show.
    """
    utils = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utils, "counters", None)
    return bool(counters and counters["frames"]["ok"])


def _is_each_attributed(thread_state: ThreadState) -> bool:
    """Return whether every backward so far can be attributed to an optimizer known at the time."""
    return not any(
        event.kind == EventKind.BACKWARD and not event.touched
        for event in thread_state.iteration.events
    )
