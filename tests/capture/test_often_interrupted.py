"""A program whose alarm goes off every few milliseconds trains on, and is recorded."""

from __future__ import annotations

import gc
import signal
import sys
import time

import pytest
import torch
from torch import nn

from seismograd.capture.hub import HUB
from seismograd.capture.names import paced_discovery
from seismograd.capture.names.paced_discovery import PacedDiscovery
from seismograd.capture.session import Session
from seismograd.measure.backend_selection import make_backend
from seismograd.schema import Note
from tests.capture.sessions import make_session
from tests.capture.test_exception_origin import PreemptedError, at_call
from tests.single_rows import RowList

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]
SLICE_S = 0.01  # of the processor's time, so that a busy machine makes no difference


class Loop:
    """A loop under a session that watches all of the process."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.rows, self.notes = RowList(), list[Note]()
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-2)
        self.session: Session = make_session(make_backend(), self.rows.take, self.notes.append)
        self._inputs = torch.randn(4, 8)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(self._inputs).square().mean().backward()
        self.optimizer.step()

    def end(self) -> None:
        HUB.detach(self.session)
        self.session.finish()


def handler(*_: object) -> None:
    raise PreemptedError


def test_a_training_in_slices_of_a_few_milliseconds_goes_on_and_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Python loses what a handler raises in the callback of a weak reference, as torch has them,
    # and says so in a warning; the next alarm comes all the same.
    lost_in: list[str] = []
    monkeypatch.setattr(
        sys,
        "unraisablehook",
        lambda each: lost_in.append(str(getattr(each.object, "__module__", ""))),
    )
    loop = Loop()
    loop.step()  # what torch imports at its first step would lose a signal
    HUB.attach(loop.session)
    before = signal.signal(signal.SIGVTALRM, handler)
    # Python loses what a handler raises while a callback of the collector runs, as Hypothesis has.
    callbacks = gc.callbacks.copy()
    gc.callbacks.clear()
    num_made, num_slices, end_s = 0, 0, time.perf_counter() + 60
    try:
        while num_slices < 150 and time.perf_counter() < end_s:
            num_slices += 1
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, SLICE_S, SLICE_S)
                while time.perf_counter() < end_s:
                    loop.step()
                    num_made += 1
            except PreemptedError:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                torch.set_grad_enabled(True)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        gc.callbacks.extend(callbacks)
        signal.signal(signal.SIGVTALRM, before)
        loop.end()
    assert num_slices == 150
    assert num_made > 50
    assert len(loop.rows) >= num_made - 20
    assert loop.session.guard.failures == {}, loop.notes
    assert not any(name.startswith("seismograd") for name in lost_in)


def test_a_first_step_that_is_interrupted_anywhere_is_taken_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the script's variables only: elsewhere are the models of earlier rounds
    monkeypatch.setattr(paced_discovery, "FREE_S", 0.0)
    monkeypatch.setattr(paced_discovery, "MAX_SHARE", 0.0)
    before = signal.signal(signal.SIGUSR1, handler)
    number = 1
    try:
        while True:
            loop = Loop()
            HUB.attach(loop.session)
            interrupted = False
            with at_call(number, lambda: signal.raise_signal(signal.SIGUSR1)):
                try:
                    loop.step()
                except PreemptedError:
                    interrupted = True
            torch.set_grad_enabled(True)
            for _ in range(3):
                loop.step()
            loop.end()
            assert loop.session.guard.failures == {}, (number, loop.notes)
            assert len(loop.rows) >= 3, number
            last = loop.rows[-1]
            assert [p.name for p in last.parameters] == NAMES, number
            assert [o.kind for o in loop.session.optimizers] == ["SGD"], number
            assert float(last.step["grad_norm"]) > 0
            if not interrupted:
                break
            number += 37
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert number > 100


def test_a_search_that_was_broken_off_is_not_begun_anew_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now_s)
    asked: list[bool] = []
    is_broken_off = False

    def discover(everywhere: bool, _: object) -> object:
        nonlocal now_s
        asked.append(everywhere)
        now_s += 0.1 if everywhere else 0.001
        if is_broken_off:
            raise PreemptedError
        return None

    monkeypatch.setattr(paced_discovery, "discover_objects", discover)
    paced = PacedDiscovery()
    paced.look()
    is_broken_off = True
    with pytest.raises(PreemptedError):
        paced.look()
    is_broken_off = False
    paced.look()
    assert paced.search_once(lambda: "found") is None
    now_s = 300.0
    paced.look()
    assert asked == [True, True, False, True]
    now_s = 600.0
    assert paced.search_once(lambda: "found") == "found"
