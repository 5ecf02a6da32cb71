"""A place that is slow, offline or forbidden: what is tried when, and what is said of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from seismograd import open_run
from seismograd.record.places.fetching import fetch_run
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.record_upload import RecordUpload
from seismograd.record.places.upload_follower import UploadFollower
from seismograd.record.places.upload_status import UploadState, read_status
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.places.stores import FlakyStore, stores
from tests.record.processes import endless_block

__all__ = ["stores"]
pytestmark = pytest.mark.usefixtures("stores")
URL = PlaceUrl("flaky://user:secret-token@bucket/one")


class Followed:
    """A record with its follower, and a clock that stands still."""

    def __init__(self, path: Path) -> None:
        self.path, self.now, self.is_written = path, 0.0, True
        self.writer = Writer(path, synthetic.info())
        self.writer.observe(endless_block(0, 5))
        self.follower = UploadFollower(
            path, RecordUpload(path, URL), lambda: self.is_written, lambda: self.now
        )

    def turn(self, after_s: float = 0.0) -> bool:
        self.now += after_s
        return self.follower.turn()

    @property
    def state(self) -> UploadState | None:
        status = read_status(self.path)
        return None if status is None else status.state


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path / "one")


def test_a_record_is_sent_now_and_then_and_at_its_end(followed: Followed) -> None:
    assert not followed.turn()
    assert followed.state == UploadState.RUNNING
    num_writes = FlakyStore.num_writes
    followed.writer.observe(endless_block(5, 5))
    assert not followed.turn(0.5)
    assert FlakyStore.num_writes == num_writes  # not yet
    assert not followed.turn(2.0)
    assert FlakyStore.num_writes == num_writes + 1
    followed.writer.close()
    assert followed.turn()  # at once
    assert followed.state == UploadState.COMPLETE
    assert open_run(fetch_run(URL)).num_rows == 10


def test_a_long_training_has_few_packs(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []
    monkeypatch.setattr(RecordUpload, "send_changes", lambda _: sent.append(followed.now))
    for _ in range(24 * 3600 // 5):
        assert not followed.turn(5.0)
    assert len([each for each in sent if each <= 100]) > 10
    assert len(sent) < 700
    assert sent[-1] - sent[-2] == 300


def test_a_place_that_is_down_is_tried_again_ever_more_rarely(followed: Followed) -> None:
    FlakyStore.num_until_failure = 0
    tries = []
    for second in range(400):
        before = FlakyStore.num_writes
        assert not followed.turn(1.0)
        if FlakyStore.num_writes > before:
            tries.append(second)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[0] == 2
    assert waits[-1] == 60
    status = read_status(followed.path)
    assert status is not None
    assert status.state == UploadState.FAILING
    assert status.url == "flaky://bucket/one"
    assert "the store is down" in status.reason
    assert b"secret-token" not in (followed.path / "upload.json").read_bytes()
    followed.writer.close()
    FlakyStore.num_until_failure = -1
    assert followed.turn()  # the end does not wait for the next try
    assert open_run(fetch_run(URL)).ended


def test_a_place_that_stays_down_is_given_up_after_the_end(followed: Followed) -> None:
    FlakyStore.num_until_failure = 0
    followed.writer.close()
    num_turns = 0
    while not followed.turn(1.0):
        num_turns += 1
    assert 1800 <= num_turns <= 1900
    assert followed.state == UploadState.FAILING


def test_a_program_that_was_killed_is_sent_to_its_last_row(followed: Followed) -> None:
    assert not followed.turn()
    followed.writer.observe(endless_block(5, 70))
    followed.writer.abandon()
    followed.is_written = False
    assert followed.turn()
    run = open_run(fetch_run(URL))
    assert run.num_rows == 75
    assert not run.ended


def test_nothing_is_sent_of_a_program_that_recorded_nothing(tmp_path: Path) -> None:
    path = tmp_path / "none"
    alive: list[Any] = [True]
    follower = UploadFollower(path, RecordUpload(path, URL), lambda: bool(alive), lambda: 0.0)
    assert follower.turn()  # the directory is not there
    path.mkdir()
    assert not follower.turn()
    alive.clear()
    assert follower.turn()
    assert FlakyStore.num_writes == 0


def test_what_needs_a_package_that_is_missing_is_not_tried_again(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec.core

    def raise_import_error(*_: object, **__: object) -> None:
        raise ImportError("no such thing", name="flakyfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", raise_import_error)
    assert followed.turn()
    status = read_status(followed.path)
    assert status is not None
    assert status.state == UploadState.REFUSED
    assert "pip install flakyfs" in status.reason
