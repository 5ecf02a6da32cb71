"""Sessions that hand what they make to two functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seismograd.capture.loop.session_outlet import NullOutlet
from seismograd.capture.session import Session
from seismograd.measure.backend import MeasuringBackend
from seismograd.schema import Note, RowBatch


class CallingOutlet(NullOutlet):
    def __init__(
        self,
        emit: Callable[[RowBatch], object],
        note: Callable[[Note], object],
        max_batch_rows: int,
    ) -> None:
        self.max_batch_rows = max_batch_rows
        self._emit, self._note = emit, note

    def emit(self, batch: RowBatch) -> None:
        self._emit(batch)

    def note(self, note: Note) -> None:
        self._note(note)


def make_session(
    backend: MeasuringBackend,
    emit: Callable[[RowBatch], object],
    note: Callable[[Note], object],
    *watched: Any,
    max_batch_rows: int = 1,
    **more: Any,
) -> Session:
    """A session with a backend and `watched` as `Session` takes it, connected."""
    session = Session(backend, *watched, **more)
    session.connect(CallingOutlet(emit, note, max_batch_rows))
    return session
