"""Trainings whose module signals are sampled at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seismograd.capture.hub import HUB
from seismograd.capture.session import Session
from seismograd.capture.xray.xray import XraySchedule
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import Note, SampleBatch
from tests.capture.sessions import CallingOutlet

ALWAYS = XraySchedule(1, 1.0, 1.0)


@dataclass
class Sampled:
    """What a session sampled."""

    session: Session
    batches: list[SampleBatch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class SamplingOutlet(CallingOutlet):
    """Keeps samples as well."""

    def __init__(self, kept: Sampled) -> None:
        super().__init__(lambda _: None, kept.notes.append, 1)
        self._kept = kept

    def sampled(self, batch: SampleBatch) -> None:
        self._kept.batches.append(batch)


@contextmanager
def sampled(*models: nn.Module, schedule: XraySchedule = ALWAYS) -> Iterator[Sampled]:
    """A session that samples; fails where a part of it did."""
    session = Session(ReferenceBackend(), models, xray=schedule)
    kept = Sampled(session)
    session.connect(SamplingOutlet(kept))
    HUB.attach(session)
    try:
        yield kept
    finally:
        HUB.detach(session)
        session.finish()
    assert session.guard.failures == {}, kept.notes


def train(
    model: nn.Module,
    loss_of: Callable[[], Tensor],
    steps: int = 2,
    parameters: Any = None,
) -> None:
    """Train for a few steps."""
    optimizer = torch.optim.SGD(model.parameters() if parameters is None else parameters, lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()


def names(batch: SampleBatch) -> list[str]:
    """Its subjects, as `name type`, with the call behind it where it is not the first."""
    return [
        f"{each.name} {each.type}" + (f" {each.call}" if each.call else "")
        for each in batch.subjects
        if each.time < 0
    ]


def number(batch: SampleBatch, name: str, field: str, type: str = "", call: int = 0) -> float:  # noqa: A002
    """A number of the subject of this name, and perhaps type."""
    (found,) = [
        at
        for at, each in enumerate(batch.subjects)
        if (each.name, each.call, each.time) == (name, call, -1) and type in ("", each.type)
    ]
    return float(batch.column(field)[found])
