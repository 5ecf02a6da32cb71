"""The list of runs survives whatever lies in the directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seismograd import SeismogradError
from seismograd.record.run_activity import list_runs
from tests import synthetic


def test_each_run_is_summed_up_and_the_rest_passed_over(tmp_path: Path) -> None:
    block = synthetic.block(np.ones((7, 2)))
    findings = [
        synthetic.finding(),
        synthetic.finding(code="SG101", severity="warning"),
        synthetic.finding(code="SG102", severity="warning"),
    ]
    synthetic.write_run(tmp_path / "b", [block], findings=findings)
    synthetic.write_run(
        tmp_path / "a",
        [block, block],
        run_info=synthetic.info(created_utc="2026-05-01T00:00:00Z", script="gan.py"),
        ended=False,
    )
    torn = synthetic.write_run(tmp_path / "torn", [block])
    (torn / "meta.json").write_text("{")
    newer = synthetic.write_run(tmp_path / "newer", [block])
    (newer / "meta.json").write_text(
        json.dumps(json.loads((newer / "meta.json").read_text()) | {"schema": 9})
    )
    cut = synthetic.write_run(
        tmp_path / "cut", [block], run_info=synthetic.info(created_utc="2026-05-02T00:00:00Z")
    )
    (cut / "steps.bin").write_bytes((cut / "steps.bin").read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "meta.json").write_text("{}")
    (tmp_path / "file.txt").write_text("x")

    runs = list_runs(tmp_path)
    assert [run.path.name for run in runs] == ["newer", "torn", "b", "a", "cut"]
    assert [run.num_rows for run in runs] == [0, 0, 7, 14, 6]
    assert [run.problem is None for run in runs] == [False, False, True, True, True]
    assert [run.torn is None for run in runs] == [True, True, True, True, False]
    assert dict(runs[2].num_findings) == {"error": 1, "warning": 2}
    assert (runs[2].ended, runs[3].ended) == (True, False)
    assert (runs[2].script, runs[3].script) == ("train.py", "gan.py")
    assert all(0 <= run.idle_s < 3600 for run in runs)


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(SeismogradError, match="cannot be read"):
        list_runs(tmp_path / "gone")


def test_no_runs_are_no_error(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == ()
