"""A record stays below the size that it may have, says what it left out, and the rules go on."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import pytest

from seismograd import SeismogradError, open_run
from seismograd.record.disk_use import disk_use
from seismograd.record.writer import Writer
from seismograd.settings.record_settings import RecordSettings, parse_size
from tests import synthetic
from tests.record.processes import endless_block


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds pass between any two looks at the clock."""
    clock = count(0, 2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))


@pytest.mark.usefixtures("seconds")
def test_a_record_ends_at_its_size_and_says_how_many_steps_it_left_out(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", synthetic.info(), RecordSettings(max_bytes=200_000))
    for first in range(0, 1000, 10):
        writer.observe(endless_block(first, 10))
    writer.finding(synthetic.finding())
    writer.close()
    run = open_run(tmp_path / "run")
    assert 10 < run.num_rows < 1000
    assert disk_use(tmp_path / "run") < 230_000
    assert (run.ended, run.torn, len(run.findings)) == (True, None, 1)
    (note,) = run.notes
    assert note.kind == "thinned"
    assert note.message.values["count"] == 1000 - run.num_rows
    assert sum(map(len, run.blocks())) == run.num_rows


def test_without_a_size_nothing_is_left_out(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", synthetic.info(), RecordSettings())
    writer.observe(endless_block(0, 500))
    writer.close()
    assert (open_run(tmp_path / "run").num_rows, open_run(tmp_path / "run").notes) == (500, ())


def test_disk_use_is_that_of_the_files_and_follows_no_link(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic.write_run(run, [endless_block(0, 100)])
    files = [path for path in run.rglob("*") if path.is_file()]
    assert disk_use(run) == sum(path.stat().st_size for path in files)
    (run / "link").symlink_to(tmp_path)
    (run / "endless").symlink_to("/dev/zero")
    assert disk_use(run) == sum(path.stat().st_size for path in files)
    assert disk_use(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("1000", 1000), ("2GB", 2 * 2**30), ("1.5 MiB", 3 * 2**19), ("10k", 10240)],
)
def test_a_size_is_read(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize("text", ["", "0", "-1", "GB", "2 XB", "1e9", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SeismogradError, match="--max-size"):
        parse_size(text)
