"""A session that keeps what it hands on, for tests of what it hears."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from seismograd.capture.hub import HUB
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import EventFlag, EventKind, Note, Site
from tests.capture.sessions import make_session
from tests.single_rows import RowList


class Watched:
    """What a session handed on, and where the events happened."""

    def __init__(self, **more: Any) -> None:
        self.rows = RowList()
        self.notes: list[Note] = []
        self.session = make_session(ReferenceBackend(), self.rows.take, self.notes.append, **more)

    @property
    def sites(self) -> list[Site]:
        return self.session.call_sites.sites

    def heard(self, kind: EventKind) -> list[tuple[EventFlag, int]]:
        """Flags and touched optimizers of every event of a kind, in order."""
        events = [event for row in self.rows for event in row.events if event["kind"] == kind]
        return [(EventFlag(int(event["flags"])), int(event["touched"])) for event in events]

    def column(self, kind: EventKind, name: str) -> list[float]:
        """A field of every event of a kind, in order."""
        return [
            float(event[name]) for row in self.rows for event in row.events if event["kind"] == kind
        ]


@contextmanager
def watched(**more: Any) -> Generator[Watched]:
    gc.collect()
    gc.freeze()  # what other tests left behind is not of this program
    kept = Watched(**more)
    HUB.attach(kept.session)
    try:
        yield kept
    finally:
        HUB.detach(kept.session)
        kept.session.finish()
        assert kept.session.guard.failures == {}, kept.notes
