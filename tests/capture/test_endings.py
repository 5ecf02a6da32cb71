"""A step is over when nothing more of it can come: it is in the record though the next has not
begun, and is never cut in two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seismograd
from seismograd.capture.hub import HUB
from seismograd.capture.loop import iteration_end
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import EventKind, RowBatch
from tests.capture.sessions import make_session
from tests.record.processes import python_at_work
from tests.single_rows import RowList

TRAIN = """
import sys, time, torch, seismograd
torch.manual_seed(0)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with seismograd.watch(model, optimizer, out=sys.argv[1], **eval(sys.argv[3])):
    for _ in range(int(sys.argv[2])):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    print("evaluating", flush=True)
    while True:
        model(torch.randn(8, 4)).square().mean().item()
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("num_steps", "selection"),
    [
        (1, "{}"),
        (70, "{'halt_on': ['error']}"),
        *(
            pytest.param(*each, marks=pytest.mark.extended)
            for each in (
                (1, "{'halt_on': ['error']}"),
                (5, "{}"),
                (5, "{'halt_on': ['error']}"),
                (70, "{}"),
            )
        ),
    ],
)
def test_all_steps_before_an_evaluation_survive_a_kill(
    tmp_path: Path, num_steps: int, selection: str
) -> None:
    path = tmp_path / "run"
    with python_at_work(TRAIN, path, str(num_steps), selection) as process:
        assert process.stdout is not None
        process.stdout.readline()
        patience = time.monotonic() + 60
        while num_recorded(path) < num_steps and time.monotonic() < patience:
            time.sleep(0.05)
        process.kill()
        process.wait()
    run = seismograd.open_run(path)
    assert not run.ended
    assert run.steps["iteration"].tolist() == list(range(num_steps))
    assert np.isfinite(run.series("grad_norm")).all()
    assert run.steps["loss"].all()


def num_recorded(path: Path) -> int:
    return len(seismograd.open_run(path).steps) if (path / "meta.json").exists() else 0


class Pausing:
    """A session whose clock a test moves, which is looked at as the pump's thread looks."""

    def __init__(self) -> None:
        self.rows = RowList()
        self.late_s = 0.0
        self.session = make_session(ReferenceBackend(), self.take, lambda _: None)

    def take(self, batch: RowBatch) -> None:
        assert len(batch) == 1
        self.rows.take(batch)

    def pause(self, seconds: float) -> None:
        """Let this much time pass without a call, and look."""
        for thread_state in self.session._thread_states.all():
            thread_state.now_s -= seconds
        looking = threading.Thread(target=self.session.hand_on_waiting)
        looking.start()
        looking.join()

    def steps(self) -> list[tuple[int, int]]:
        """Number and optimizers of each row so far."""
        return [(int(row.step["iteration"]), int(row.step["num_steps"])) for row in self.rows]


@contextmanager
def pausing() -> Generator[Pausing]:
    kept = Pausing()
    HUB.attach(kept.session)
    try:
        yield kept
    finally:
        HUB.detach(kept.session)
        kept.session.finish()
        assert kept.session.guard.failures == {}


def two_models() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    one, other = nn.Linear(4, 4), nn.Linear(4, 2)
    return (
        one,
        other,
        torch.optim.SGD(one.parameters(), lr=0.1),
        torch.optim.SGD(other.parameters(), lr=0.1),
    )


@pytest.mark.parametrize("first_pause_s", [0.0, 2.0])
def test_a_slow_step_of_a_second_optimizer_is_of_the_same_row(first_pause_s: float) -> None:
    one, other, first, second = two_models()
    with pausing() as heard:
        for number in range(4):
            first.zero_grad()
            second.zero_grad()
            other(one(torch.randn(8, 4))).square().mean().backward()
            first.step()
            heard.pause(2.0 if number else first_pause_s)
            second.step()
            heard.pause(2.0)
    assert heard.steps() == [(number, 2) for number in range(4)]
    assert all(np.isfinite(row.values["grad_norm"]).all() for row in heard.rows)


def test_a_step_that_comes_far_too_late_is_a_row_of_its_own() -> None:
    one, other, first, second = two_models()
    with pausing() as heard:
        other(one(torch.randn(8, 4))).square().mean().backward()
        first.step()
        heard.pause(iteration_end.PATIENCE_S + 1)
        assert heard.steps() == [(0, 1)]
        second.step()
    assert heard.steps() == [(0, 1), (1, 1)]
    early, late = (np.isfinite(row.values["grad_norm"]) for row in heard.rows)
    assert early.sum() == late.sum() == 2
    assert not (early & late).any()
    assert heard.rows[0].step["loss"] == heard.rows[1].step["loss"] != 0


def test_optimizers_that_step_in_turn_wait_for_nobody_once_that_is_known() -> None:
    one, other, first, second = two_models()
    with pausing() as heard:
        for number in range(3):
            fake = one(torch.randn(8, 4))
            second.zero_grad()
            other(fake.detach()).square().mean().backward()
            second.step()
            heard.pause(1.0)
            assert len(heard.rows) == 2 * number + 1
            first.zero_grad()
            other(fake).square().mean().backward()
            first.step()
            heard.pause(1.0)
            assert len(heard.rows) == (2 * number + 2 if number else 1)
    assert heard.steps() == [(number, 1) for number in range(6)]


class Slow(torch.optim.SGD):
    """Takes its time within a step."""

    during: Callable[[], None] = staticmethod(lambda: None)

    def step(self, closure: Any = None) -> Any:
        self.during()
        done = super().step(closure)
        self.during()
        return done


def test_nothing_ends_inside_of_a_call() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = Slow(model.parameters(), lr=0.1)
    with pausing() as heard:
        optimizer.during = lambda: heard.pause(100)  # type: ignore[method-assign]
        for number in range(3):
            loss = model(torch.randn(8, 4)).square().mean()
            loss.register_hook(lambda _: heard.pause(100))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            assert len(heard.rows) == number
            heard.pause(1)
            assert len(heard.rows) == number + 1
    assert all(np.isfinite(row.values["applied_norm"]).all() for row in heard.rows)


def events_of(pause_s: float) -> list[tuple[int, int]]:
    """A loop with a scaler that clips and clears after its steps: the kinds and flags of its
    events, in order.
    """
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer, scaler = (
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", init_scale=64.0),
    )
    with pausing() as heard:
        for _ in range(4):
            scaler.scale(model(torch.randn(8, 4)).square().mean()).backward()
            scaler.step(optimizer)
            heard.pause(pause_s)
            scaler.update()
            heard.pause(pause_s)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            heard.pause(pause_s)
            optimizer.zero_grad()
            heard.pause(pause_s)
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    assert len(heard.rows) == 5
    return [(int(event["kind"]), int(event["flags"])) for row in heard.rows for event in row.events]


def test_what_follows_a_step_is_heard_alike_however_late_it_comes() -> None:
    late = events_of(3.0)
    assert late == events_of(0.0)
    assert [kind for kind, _ in late].count(EventKind.CLIP) == 4
