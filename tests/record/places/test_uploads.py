"""What is at a place reads as a record at every moment of its upload."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seismograd import Run, SeismogradError, open_run
from seismograd.record.inspection import inspect
from seismograd.record.places.fetching import fetch_run
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.record_upload import RecordUpload
from seismograd.record.places.spool_changes import SpoolChanges
from seismograd.record.places.spool_files import found_files
from seismograd.record.resuming import resume_record
from seismograd.record.writer import Writer
from seismograd.settings.record_settings import RecordSettings
from tests import synthetic
from tests.record.places.stores import FlakyStore, fsspec, stores
from tests.record.processes import endless_block

__all__ = ["stores"]
pytestmark = pytest.mark.usefixtures("stores")


def fetched(url: str) -> Run:
    return open_run(fetch_run(PlaceUrl(url)))


def assert_same(one: Path, other: Path) -> None:
    """Both directories hold the same record."""
    names = sorted(found_files(one))
    assert sorted(found_files(other)) == names
    assert [name for name in names if not filecmp.cmp(one / name, other / name, False)] == []


def assert_is_a_beginning(run: Run, num_rows: int) -> None:
    assert run.num_rows == num_rows
    expected = endless_block(0, num_rows)
    np.testing.assert_array_equal(run.series("grad_norm"), expected.values["grad_norm"])
    assert run.events.tobytes() == expected.events.tobytes()


@pytest.mark.parametrize("pack_bytes", [2**24, 1000])
def test_a_record_is_there_while_it_is_written_and_as_files_at_the_end(
    tmp_path: Path, pack_bytes: int
) -> None:
    url = "memory://bucket/runs/one"
    upload = RecordUpload(tmp_path / "one", PlaceUrl(url))
    upload._changes = SpoolChanges(tmp_path / "one", pack_bytes)
    writer = Writer(tmp_path / "one", synthetic.info(), RecordSettings(keep_raw=64))
    num_rows = 0
    for size in (1, 70, 3, 200, 64):
        writer.observe(endless_block(num_rows, size))
        num_rows += size
        writer.finding(synthetic.finding(first_step=num_rows - 1, last_step=num_rows))
        assert upload.send_changes() > 0
        run = fetched(url)
        assert run.num_rows == num_rows
        assert run.steps["loss"].tolist() == (np.arange(num_rows) * 0.5).tolist()
        assert not run.ended
        assert inspect(run.path).damage == ()
        assert_same(tmp_path / "one", run.path)
    assert upload.send_changes() == 0  # nothing is new
    writer.close()
    upload.complete()
    run = fetched(url)
    assert run.ended
    assert_same(tmp_path / "one", run.path)
    files = fsspec.filesystem("memory")
    assert files.cat_file("/bucket/runs/one/steps.bin") == (run.path / "steps.bin").read_bytes()
    assert not [name for name in files.find("/bucket") if name.endswith(".pack")]


def test_a_write_that_fails_is_made_up_for(tmp_path: Path) -> None:
    url = "flaky://bucket/one"
    upload = RecordUpload(tmp_path / "one", PlaceUrl(url))
    writer = Writer(tmp_path / "one", synthetic.info())
    num_rows = 0
    for behind in (False, True) * 3:
        writer.observe(endless_block(num_rows, 9))
        FlakyStore.num_until_failure, FlakyStore.fails_behind = 0, behind
        with pytest.raises(ConnectionError):
            upload.send_changes()
        FlakyStore.num_until_failure = -1
        writer.observe(endless_block(num_rows + 9, 2))
        num_rows += 11
        upload.send_changes()
        assert_is_a_beginning(fetched(url), num_rows)
    writer.close()
    for failing in range(0, 60, 7):
        FlakyStore.num_until_failure = failing
        try:
            upload.complete()
        except ConnectionError:
            assert_is_a_beginning(fetched(url), num_rows)
    FlakyStore.num_until_failure = -1
    upload.complete()
    assert_is_a_beginning(fetched(url), num_rows)
    assert_same(tmp_path / "one", fetched(url).path)


def test_a_record_that_was_taken_back_is_sent_anew(tmp_path: Path) -> None:
    url, path = "memory://bucket/one", tmp_path / "one"
    first = RecordUpload(path, PlaceUrl(url))
    writer = Writer(path, synthetic.info())
    writer.observe(endless_block(0, 50))
    writer.close()
    first.complete()
    second = RecordUpload(path, PlaceUrl(url))
    second.send_changes()
    resumed = resume_record(path, 20, synthetic.make_parameters(5))
    resumed.writer.observe(endless_block(20, 60))
    second.send_changes()
    run = fetched(url)
    assert_is_a_beginning(run, 80)
    assert not run.ended
    assert len(run.branches) == 1
    resumed.writer.close()
    second.complete()
    assert_same(path, fetched(url).path)
    assert fetched(url).ended


def test_a_pack_that_was_cut_short_ends_the_record_before_it(tmp_path: Path) -> None:
    files: Any = fsspec.filesystem("memory")
    upload = RecordUpload(tmp_path / "one", PlaceUrl("memory://bucket/one"))
    writer = Writer(tmp_path / "one", synthetic.info())
    for first in range(0, 30, 10):
        writer.observe(endless_block(first, 10))
        upload.send_changes()
    whole = files.cat_file("/bucket/one/packs/000003.pack")
    for size in range(0, len(whole), max(1, len(whole) // 12)):
        files.pipe_file("/bucket/one/packs/000003.pack", whole[:size])
        assert_is_a_beginning(fetched("memory://bucket/one"), 20)
    files.pipe_file("/bucket/one/packs/000003.pack", whole)
    assert_is_a_beginning(fetched("memory://bucket/one"), 30)
    files.pipe_file("/bucket/one/packs/000002.pack", whole[:99])  # no longer the last one
    with pytest.raises(SeismogradError, match="damaged"):
        fetched("memory://bucket/one")


def test_another_record_at_the_place_stays(tmp_path: Path) -> None:
    for name in ("one", "other"):
        writer = Writer(tmp_path / name, synthetic.info())
        writer.observe(endless_block(0, 3 if name == "one" else 5))
        writer.close()
        upload = RecordUpload(tmp_path / name, PlaceUrl("memory://bucket/same"))
        upload.complete()
    assert upload.url.shown == "memory://bucket/same-2"
    assert fetched("memory://bucket/same").num_rows == 3
    assert fetched("memory://bucket/same-2").num_rows == 5
    again = RecordUpload(tmp_path / "other", PlaceUrl("memory://bucket/same-2"))
    again.complete()
    assert again.url.shown == "memory://bucket/same-2"


def test_a_record_that_was_copied_there_is_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "one", synthetic.info())
    writer.observe(endless_block(0, 8))
    writer.close()
    shutil.copytree(tmp_path / "one", tmp_path / "store" / "copied")
    run = fetched((tmp_path / "store" / "copied").as_uri())
    assert_is_a_beginning(run, 8)
    assert not run.path.is_relative_to(tmp_path / "store")
