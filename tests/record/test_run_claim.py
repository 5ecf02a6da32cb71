"""A run is one from the first moment on, and no other program takes its directory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from seismograd import SeismogradError, open_run
from seismograd.cli import main
from seismograd.record import run_directory
from seismograd.record.lazy_writer import LazyWriter, paths_of_others
from seismograd.record.run_claim import STARTED, claim, is_starting, release
from seismograd.record.run_directory import create_run_directory
from seismograd.record.run_listing import list_runs
from seismograd.record.writer import Writer
from seismograd.views.page_api.run_source import open_source
from seismograd.views.report.report_markdown import render as render_markdown
from seismograd.views.run_condition import end_code
from seismograd.views.web.run_cache import RunCache
from tests.synthetic import block, info

LONG_AGO = (1e9, 1e9)


def lazy(path: Path, leave: bool = False) -> LazyWriter:
    return LazyWriter(path, lambda position: Writer(position, info()), leave)


def claimed_by(process: int, path: Path) -> None:
    """As another program leaves it that has only just begun."""
    path.mkdir(parents=True, exist_ok=True)
    claim(path, "other.py")
    told = json.loads((path / STARTED).read_text("utf-8"))
    (path / STARTED).write_text(json.dumps(told | {"process": process}), "utf-8")


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    path = create_run_directory(tmp_path / "runs" / "killed", "/home/somebody/train.py")
    os.utime(path / STARTED, LONG_AGO)
    return path


def test_a_run_that_was_killed_at_once_opens_and_says_so(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(killed)
    assert (run.num_rows, run.ended, run.info.script) == (0, False, "train.py")
    assert end_code(run) == "killed at once"
    assert len(run.steps) == len(run.events) == 0
    assert run.series("grad_norm").shape == (0, 0)
    assert [each.run is not None for each in list_runs(killed.parent)] == [True]
    (listed,) = RunCache(killed.parent).list()
    assert (listed["state"], listed["end"]["en"]) == ("broken", "killed before its first step")  # type: ignore[index]
    assert "killed before its first step" in render_markdown(open_source(run))
    said = "the run was killed before its first step was recorded"
    for command, code in (("check", 2), ("show", 2), ("report", 0), ("fsck", 0)):
        out = ["-o", str(killed.parent / "report.html")] if command == "report" else []
        assert main([command, str(killed), *out, "--lang", "en"]) == code
        assert said in capsys.readouterr().err
    assert main(["runs", str(killed.parent), "--lang", "en"]) == 0
    assert "killed before its first step" in capsys.readouterr().out


def test_a_run_that_has_just_begun_is_not_called_killed(killed: Path) -> None:
    os.utime(killed / STARTED)
    assert end_code(open_run(killed)) == "not ended"


def test_it_opens_wherever_the_claim_was_cut_off(killed: Path) -> None:
    whole = (killed / STARTED).read_bytes()
    for length in range(len(whole)):
        (killed / STARTED).write_bytes(whole[:length])
        assert open_run(killed).num_rows == 0
    (killed / STARTED).write_bytes(b'{"script": 3, "created_utc": []}')
    assert open_run(killed).info.script == ""


def test_what_is_recorded_replaces_the_claim(tmp_path: Path) -> None:
    path = create_run_directory(tmp_path / "run", "train.py")
    writer = lazy(path)
    writer.observe(block(grad_norm=[[1.0, 2.0]]))
    writer.close()
    assert (open_run(path).num_rows, open_run(path).ended) == (1, True)
    assert open_run(path).info.torch_version == info().torch_version


def test_the_second_program_that_begins_in_a_directory_has_its_own_verdict(tmp_path: Path) -> None:
    """It used to show the steps and the verdict of the first one as its own."""
    claimed_by(os.getppid(), tmp_path / "run")
    path = create_run_directory(tmp_path / "run", "train.py")
    assert path == tmp_path / "run-process-2"
    first, second = lazy(tmp_path / "run"), lazy(path)
    first.observe(block(grad_norm=[[1.0, 2.0]] * 3))
    first.close()
    second.close()
    assert (second.path, open_run(second.path).num_rows) == (path, 0)
    assert open_run(tmp_path / "run").num_rows == 3


def test_a_program_that_claims_it_in_between_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claimed_behind_the_look(path: Path) -> bool:
        monkeypatch.setattr(run_directory, "is_starting", is_starting)
        claimed_by(os.getppid(), path)
        return False

    monkeypatch.setattr(run_directory, "is_starting", claimed_behind_the_look)
    path = create_run_directory(tmp_path / "run", "train.py")
    assert path == tmp_path / "run-process-2"


def test_a_claim_that_is_being_written_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed_by(os.getppid(), tmp_path / "run")
    started = tmp_path / "run" / STARTED
    whole = started.read_bytes()
    started.write_bytes(b"")
    monkeypatch.setattr(time, "sleep", lambda _: started.write_bytes(whole))
    path = create_run_directory(tmp_path / "run", "train.py")
    assert path == tmp_path / "run-process-2"


def test_a_claim_that_was_never_written_is_that_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STARTED).write_bytes(b"")
    monkeypatch.setattr(run_directory, "_LOOK_S", 0.0)
    with pytest.raises(SeismogradError, match="not empty"):
        create_run_directory(tmp_path / "run", "train.py")


def test_a_process_of_the_first_program_takes_no_directory_of_the_second(tmp_path: Path) -> None:
    create_run_directory(tmp_path / "run", "train.py")
    claimed_by(os.getppid(), tmp_path / "run-process-2")
    writers = [lazy(tmp_path / "run", leave=True) for _ in range(2)]
    for writer in writers:
        writer.observe(block(grad_norm=[[1.0, 2.0]]))
        writer.close()
    assert [writer.path.name for writer in writers] == ["run", "run-process-3"]
    assert open_run(tmp_path / "run-process-2").num_rows == 0


def test_the_claim_of_a_program_that_is_gone_is_kept(tmp_path: Path) -> None:
    claimed_by(2**22 + 1, tmp_path / "run")  # no process has that number
    with pytest.raises(SeismogradError, match="not empty"):
        create_run_directory(tmp_path / "run", "train.py")
    assert open_run(tmp_path / "run").info.script == "other.py"


def test_a_claim_is_given_back_unless_something_was_recorded(tmp_path: Path) -> None:
    path = create_run_directory(tmp_path / "run", "train.py")
    writer = lazy(path)
    writer.leave()
    writer.close()
    assert not path.exists()
    path = create_run_directory(tmp_path / "run", "train.py")
    writer = lazy(path)
    writer.observe(block(grad_norm=[[1.0, 2.0]]))
    release(path)
    writer.close()
    assert open_run(path).num_rows == 1
    assert list(paths_of_others(path)) == []
