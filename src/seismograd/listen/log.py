"""The calls that were heard, in order, each with the user's line, and the numbers of theirs that are still on a device."""

from __future__ import annotations

import time
from collections.abc import Iterable

from seismograd.listen.callsite import CallSites
from seismograd.listen.iteration import NOT_KNOWN, Heard
from seismograd.listen.lanes import Lane
from seismograd.listen.scalars import Scalar
from seismograd.schema import EventKind

OWN_FRAMES = 4  # at least, between the user's line and the look-up of it
MAX_WITHOUT_STEP = 4096  # calls, and numbers, that are kept while no step comes


class Log:
    """Writes calls into the iterations of lanes. `waiting` numbers come over with the next transfer, which takes them."""

    def __init__(self) -> None:
        self.call_sites = CallSites()
        self._waiting: list[Scalar] = []
        self._start_s = time.perf_counter()

    def heard(
        self,
        lane: Lane,
        kind: EventKind,
        optimizer: int = -1,
        value: Scalar | None = None,
        limit: Scalar | None = None,
        detail: int = 0,
        scale: Scalar | None = None,
    ) -> Heard:
        """A call on this lane, at the user's line that is on the stack."""
        events = lane.iteration.events
        heard = Heard(
            kind,
            lane.now_s - self._start_s,
            self.call_sites.here(OWN_FRAMES),
            optimizer,
            value or NOT_KNOWN,
            scale,
            limit or NOT_KNOWN,
            detail,
        )
        events.append(heard)
        if len(events) > MAX_WITHOUT_STEP and not lane.iteration.steps:
            del events[: MAX_WITHOUT_STEP // 2]
        return heard

    def scalar(self, source: object) -> Scalar:
        """A number that a call told of."""
        scalar = Scalar(source)
        if scalar.tensor is not None:
            self.wait_for([scalar])
        return scalar

    def wait_for(self, scalars: Iterable[Scalar]) -> None:
        """These are still on a device."""
        self._waiting = [*self._waiting[-MAX_WITHOUT_STEP:], *scalars]

    def take_waiting(self) -> list[Scalar]:
        """Those that are still on a device, for whoever brings them over."""
        waiting = self._waiting
        if waiting:
            self._waiting = []
        return waiting

    def last_backward(self, lanes: Iterable[Lane]) -> str:
        """The user's line of the last backward in the iterations that are not over; empty when there is none."""
        site = self.last_backward_site(lanes)
        return str(self.call_sites.sites[site]) if site >= 0 else ""

    def last_backward_site(self, lanes: Iterable[Lane]) -> int:
        """The index of that line; -1 when there is none."""
        heard = [e for lane in lanes for e in lane.iteration.events if e.kind == EventKind.BACKWARD and e.site >= 0]
        return heard[-1].site if heard else -1
