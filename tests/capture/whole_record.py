"""Everything that a session hands on, as bytes that two sessions can be compared by: all but the
times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import numpy as np

from seismograd.capture.hub import HUB
from seismograd.capture.loop.session_outlet import NullOutlet
from seismograd.capture.session import Session
from seismograd.measure.backend import MeasuringBackend
from seismograd.schema import Fact, Note, RowBatch, SampleBatch

TIMES = {"time_s", "overhead_s"}


class KeepingOutlet(NullOutlet):
    """Keeps each row, note and fact by itself, whatever they come together with."""

    def __init__(self, max_batch_rows: int) -> None:
        self.max_batch_rows = max_batch_rows
        self.rows: list[RowBatch] = []
        self.notes: list[Note] = []
        self.facts: list[Fact] = []
        self.samples: list[SampleBatch] = []

    def emit(self, batch: RowBatch) -> None:
        self.rows += batch.split(1)

    def note(self, note: Note) -> None:
        self.notes.append(note)

    def learn(self, fact: Fact) -> None:
        self.facts.append(fact)

    def sampled(self, batch: SampleBatch) -> None:
        self.samples.append(batch)


class WholeRecord:
    """Watches what is done within it."""

    def __init__(self, backend: MeasuringBackend, max_batch_rows: int = 1, **more: Any) -> None:
        self.session = Session(backend, **more)
        self.outlet = KeepingOutlet(max_batch_rows)
        self.session.connect(self.outlet)

    def __enter__(self) -> WholeRecord:
        HUB.attach(self.session)
        return self

    def __exit__(self, *_: object) -> None:
        HUB.detach(self.session)
        self.session.finish()

    def lines(self) -> list[str]:
        """Return a line for each thing that was handed on."""
        sites = self.session.call_sites.sites
        lines = [f"site {site}" for site in sites]
        lines += [f"optimizer {astuple(each)}" for each in self.session.optimizers]
        for number, row in enumerate(self.outlet.rows):
            lines += [f"row {number}: {each}" for each in _row_lines(row)]
        lines += [f"fact {fact}" for fact in self.outlet.facts]
        for each in self.outlet.samples:
            about = f"{each.kind} {each.step} {each.optimizer} {list(each.subjects)}"
            lines.append(f"sample {about}: {_bits(each.values)} {_bits(each.measured)}")
        lines += [f"note {note.kind} {note.message.render()}" for note in self.outlet.notes]
        return lines


def _row_lines(row: RowBatch) -> Iterator[str]:
    yield f"parameters {row.parameters}"
    for name in ("steps", "events", "ranks", "pairs"):
        entries = getattr(row, name)
        for field in entries.dtype.names or ():
            if field not in TIMES:
                yield f"{name}.{field} {_bits(entries[field])}"
    yield f"state {_bits(row.state)}"
    for kind, numbers in (
        ("value", row.values),
        ("sample", row.samples),
        ("sketch", row.sketches),
    ):
        for name in sorted(numbers):
            yield f"{kind} {name} {_bits(numbers[name])}"
    yield f"elements {_bits(row.elements)}"


def _bits(numbers: Any) -> str:
    numbers = np.asarray(numbers)
    if numbers.dtype.kind == "f":
        # of two NaN multiplied, NumPy 1 takes the sign of either, by where the memory lies
        numbers = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers)
    return f"{numbers.dtype} {numbers.shape} {numbers.tobytes().hex()}"
