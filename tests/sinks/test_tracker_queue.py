"""A tracker that is slow, hangs or raises costs its own numbers and nobody's time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seismograd.schema import Note
from seismograd.sinks import tracker_queue
from seismograd.sinks.tracker import Alert, RunStart, TrackedStep, TrackerEndedError
from seismograd.sinks.tracker_queue import MOST_FAILURES, TrackerQueue
from seismograd.sinks.tracker_sink import TrackerSink
from tests.synthetic import block, finding

RUN = RunStart("train.py", "2026-01-02T03:04:05Z", "2.13.0", lambda: Path("runs/one"))


class Kept:
    """Keeps what it is sent; `before` is called first."""

    ends_at_exit = False

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        self.before = before
        self.steps: list[int] = []
        self.alerts: list[str] = []
        self.closed = False

    def begin(self, run: RunStart) -> None:
        assert run is RUN

    def log(self, measurement: TrackedStep) -> None:
        self.before(measurement.step)
        self.steps.append(measurement.step)

    def alert(self, alert: Alert) -> None:
        self.alerts.append(alert.code)

    def close(self) -> None:
        self.closed = True


def measurement(step: int) -> TrackedStep:
    return TrackedStep(step, 0.0, {"grad_norm": 1.0})


def test_all_is_sent_in_order_and_then_the_tracker_is_closed() -> None:
    kept = Kept()
    delivery = TrackerQueue("kept", lambda: kept, RUN)
    for step in range(100):
        delivery.put(measurement(step))
    delivery.close()
    assert kept.steps == list(range(100))
    assert kept.closed
    assert (delivery.num_lost, delivery.error) == (0, None)


def test_nothing_is_begun_for_a_run_without_a_step() -> None:
    def never() -> Kept:
        raise AssertionError

    delivery = TrackerQueue("kept", never, RUN)
    delivery.close()
    assert delivery.error is None


def test_a_slow_tracker_keeps_nobody_waiting_and_what_it_misses_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracker_queue, "MOST_WAITING", 10)
    go_on = threading.Event()
    waited_for: list[bool] = []
    kept = Kept(lambda _: waited_for.append(go_on.wait(60)))
    delivery = TrackerQueue("kept", lambda: kept, RUN)
    for step in range(100):
        delivery.put(measurement(step))
    go_on.set()
    delivery.close()
    assert all(waited_for)  # else a put has waited for the tracker
    assert len(kept.steps) + delivery.num_lost == 100
    assert 85 <= delivery.num_lost <= 90


def test_one_that_hangs_is_left_after_a_while() -> None:
    begun, forever = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        forever.wait()

    delivery = TrackerQueue("kept", lambda: Kept(hang), RUN)
    for step in range(3):
        delivery.put(measurement(step))
    assert begun.wait(60)
    delivery.close(patience_s=0.1)
    assert isinstance(delivery.error, TimeoutError)
    assert delivery.num_lost == 2
    forever.set()


def test_one_failure_is_survived_and_several_in_a_row_end_it() -> None:
    def fails(step: int) -> None:
        if step == 1 or step >= 5:
            raise ConnectionError("offline")

    kept = Kept(fails)
    delivery = TrackerQueue("kept", lambda: kept, RUN)
    for step in range(20):
        delivery.put(measurement(step))
    delivery.close()
    assert kept.steps == [0, 2, 3, 4]
    assert isinstance(delivery.error, ConnectionError)
    assert delivery.num_lost == 16
    assert kept.closed
    assert MOST_FAILURES == 3


def test_a_run_that_the_script_has_ended_is_no_failure() -> None:
    def ended(step: int) -> None:
        if step == 2:
            raise TrackerEndedError

    kept = Kept(ended)
    delivery = TrackerQueue("kept", lambda: kept, RUN)
    for step in range(5):
        delivery.put(measurement(step))
    delivery.close()
    assert (kept.steps, delivery.num_lost, delivery.error) == ([0, 1], 0, None)


def test_what_fails_after_a_library_has_ended_at_the_exit_is_no_failure() -> None:
    def fails(step: int) -> None:
        if step == 3:
            raise ConnectionResetError

    kept = Kept(fails)
    kept.ends_at_exit = True
    delivery = TrackerQueue("kept", lambda: kept, RUN)
    for step in range(3):
        delivery.put(measurement(step))
    delivery.exit_begins()
    assert kept.steps == [0, 1, 2]
    delivery.put(measurement(3))
    delivery.close()
    assert (delivery.num_lost, delivery.error) == (0, None)


def test_what_a_tracker_did_not_take_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("seismograd.sinks.tracker_sink.make_tracker", lambda _: Kept(fails))
    notes: list[Note] = []
    from seismograd.settings.tracker_options import TrackerOption

    sink = TrackerSink([TrackerOption("kept")], RUN, notes.append)
    for start in range(0, 50, 10):
        sink.observe(block(np.ones((10, 2)), first_iteration=start))
    sink.close()
    sink.close()
    said = [note.message.render() for note in notes]
    assert said == [
        "kept failed: OSError: no route to host",
        "kept did not get everything; not sent: 50",
    ]


def test_a_finding_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    monkeypatch.setattr("seismograd.sinks.tracker_sink.make_tracker", lambda _: kept)
    from seismograd.settings.tracker_options import TrackerOption

    sink = TrackerSink([TrackerOption("kept")], RUN, lambda _: None)
    sink.observe(block(np.ones((1, 2))))
    sink.finding(finding())
    sink.finding(finding(last_step=9))
    sink.close()
    assert kept.alerts == ["SG201"]
