"""Record the intercepted calls in order, each with the user's line, and track their numbers that
are still on a device.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.iteration import NOT_KNOWN, CapturedEvent
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.schema import EventKind
from seismograd.tensors.device_scalars import Scalar

# minimum number of frames between the user's line and its look-up: `here`, a handler, the
# dispatcher
OWN_FRAMES = 3
new = object.__new__
MAX_WITHOUT_STEP = 4096  # calls, and numbers, kept while no step comes


class EventLog:
    """Writes calls into the iterations of threads. `waiting` numbers arrive with the next transfer,
    which takes them.
    """

    def __init__(self) -> None:
        self.call_sites = CallSites()
        self.waiting: list[Scalar] = []
        self.start_s = time.perf_counter()

    def record(
        self,
        thread_state: ThreadState,
        kind: EventKind,
        optimizer: int = -1,
        value: Scalar | None = None,
        limit: Scalar | None = None,
        detail: int = 0,
        scale: Scalar | None = None,
    ) -> CapturedEvent:
        """Record a call on this thread, at the user's line on the stack."""
        events = thread_state.iteration.events
        captured = new(CapturedEvent)  # without the call of its `__init__`
        captured.kind, captured.time_s = kind, thread_state.now_s - self.start_s
        captured.site = self.call_sites.here(OWN_FRAMES + 1)
        captured.optimizer, captured.detail = optimizer, detail
        captured.value, captured.limit = value or NOT_KNOWN, limit or NOT_KNOWN
        captured.scale, captured.reduction = scale, None
        captured.touched = captured.flags = 0
        captured.unclaimed = False
        events.append(captured)
        if len(events) > MAX_WITHOUT_STEP and not thread_state.iteration.steps:
            del events[: MAX_WITHOUT_STEP // 2]
        return captured

    def scalar(self, source: object) -> Scalar:
        """Return a number that came with a call."""
        scalar = Scalar(source)
        if scalar.tensor is not None:
            self.wait_for([scalar])
        return scalar

    def wait_for(self, scalars: Iterable[Scalar]) -> None:
        """Register numbers that are still on a device."""
        self.waiting = [*self.waiting[-MAX_WITHOUT_STEP:], *scalars]

    def take_waiting(self) -> list[Scalar]:
        """Return the numbers still on a device, for the caller to transfer."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def last_backward(self, thread_states: Iterable[ThreadState]) -> str:
        """Return the user's line of the last backward in the iterations that are not over; empty
        when there is none.
        """
        site = self.last_backward_site(thread_states)
        return str(self.call_sites.sites[site]) if site >= 0 else ""

    def last_backward_site(self, thread_states: Iterable[ThreadState]) -> int:
        """Return the index of that line; -1 when there is none."""
        captured = [
            e
            for thread_state in thread_states
            for e in thread_state.iteration.events
            if e.kind == EventKind.BACKWARD and e.site >= 0
        ]
        return captured[-1].site if captured else -1
