"""The list of runs survives whatever lies in the directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seismograd.diagnosis.verdict import recorded_verdict
from seismograd.record.reader import open_run
from seismograd.record.run_listing import NO_PROBLEM, list_runs
from seismograd.schema import RunState
from seismograd.views.page_api.run_overview import about
from seismograd.views.top.snapshot import read_snapshot
from seismograd.views.web.run_cache import RunCache
from tests import synthetic
from tests.record.edits import read_unsealed


def test_each_run_is_listed_and_the_rest_passed_over(tmp_path: Path) -> None:
    block = synthetic.block(np.ones((7, 2)))
    later = synthetic.block(np.ones((7, 2)), first_iteration=7)
    findings = [
        synthetic.finding(),
        synthetic.finding(code="SG101", severity="warning"),
        synthetic.finding(code="SG102", severity="warning"),
    ]
    synthetic.write_run(tmp_path / "b", [block], findings=findings)
    synthetic.write_run(
        tmp_path / "a",
        [block, later],
        run_info=synthetic.info(created_utc="2026-05-01T00:00:00Z", script="gan.py"),
        ended=False,
    )
    torn = synthetic.write_run(tmp_path / "torn", [block])
    (torn / "meta.json").write_text("{")
    newer = synthetic.write_run(tmp_path / "newer", [block])
    (newer / "meta.json").write_text(json.dumps(read_unsealed(newer / "meta.json") | {"schema": 9}))
    cut = synthetic.write_run(
        tmp_path / "cut",
        [block, later],
        run_info=synthetic.info(created_utc="2026-05-02T00:00:00Z"),
    )
    (cut / "steps.bin").write_bytes((cut / "steps.bin").read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "meta.json").write_text("{}")
    (tmp_path / "file.txt").write_text("x")

    listed = list_runs(tmp_path)
    assert [each.path.name for each in listed] == ["cut", "a", "b", "torn", "photos", "newer"]
    assert [each.problem == NO_PROBLEM for each in listed] == [True] * 3 + [False] * 3
    assert [each.run is None for each in listed] == [False] * 3 + [True] * 3
    runs = [each.run for each in listed if each.run is not None]
    assert [run.num_rows for run in runs] == [7, 14, 7]
    assert [run.torn is None for run in runs] == [False, True, True]
    assert [run.ended for run in runs] == [True, False, True]
    assert all(each.created_utc == "" for each in listed[3:])


def test_no_runs_are_no_error(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("ended", "going_on", "state"),
    [
        (True, False, RunState.ENDED),
        (True, True, RunState.ENDED),
        (False, True, RunState.LIVE),
        (False, False, RunState.BROKEN),
    ],
)
def test_every_view_says_the_same_of_how_far_a_run_has_come(
    tmp_path: Path, ended: bool, going_on: bool, state: RunState
) -> None:
    """`going_on` is of the moment before the run was opened, so it may have ended since."""
    path = synthetic.write_run(tmp_path / "run", [synthetic.block(np.ones((3, 1)))], ended=ended)
    run = open_run(path)
    assert read_snapshot(run, going_on).state is state
    header, _ = about(recorded_verdict(run), going_on, with_source=False)
    assert header["run"]["state"] == state  # type: ignore[index]
    if ended or going_on:  # it was written just now
        assert RunCache(tmp_path).list()[0]["state"] == state
        assert RunCache(tmp_path).news(0).state is state
