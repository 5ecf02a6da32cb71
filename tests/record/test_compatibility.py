"""What is not a run, or not one for this version, is said in one line with its mend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seismograd import SeismogradError, open_run
from seismograd.i18n import use_language
from seismograd.record.writer import Writer
from seismograd.schema import STEP_DTYPE
from tests import synthetic
from tests.record.edits import read_unsealed, without_checksums


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return synthetic.write_run(
        tmp_path / "runs" / "first",
        [synthetic.block(np.ones((12, 2)))],
        findings=[synthetic.finding()],
    )


def line_of(path: Path) -> str:
    with pytest.raises(SeismogradError) as caught, use_language("en"):
        open_run(path)
    with use_language("en"):
        line = caught.value.line()
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return line.replace(str(path), "RUN")


def test_a_missing_run(tmp_path: Path) -> None:
    assert (
        line_of(tmp_path / "gone")
        == "there is no run at RUN · `seismograd runs` lists the runs under runs/"
    )


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert (
        line_of(tmp_path / "a.txt")
        == "RUN is a file, but a run is a directory · give the directory that contains it"
    )


def test_a_directory_that_is_not_a_run(tmp_path: Path) -> None:
    assert (
        line_of(tmp_path)
        == "RUN is not a run: it has no meta.json · `seismograd runs` lists the runs under runs/"
    )


def test_a_directory_of_runs_names_the_last_one(run_path: Path) -> None:
    assert (
        line_of(run_path.parent)
        == "RUN is not a run: it has no meta.json · this directory contains runs; the latest one is RUN/first"
    )


@pytest.mark.parametrize("text", ["", "{", '{"format": "seismograd run", "sch', "[]"])
def test_a_torn_meta(run_path: Path, text: str) -> None:
    (run_path / "meta.json").write_text(text)
    expected = "RUN: its meta.json is incomplete or damaged · its data is in plain files; the README.txt there shows how to read them with NumPy"
    assert line_of(run_path) == expected


def test_a_meta_that_lacks_what_it_must_have(run_path: Path) -> None:
    (run_path / "meta.json").write_text('{"format": "seismograd run", "schema": 1}')
    assert line_of(run_path).startswith("RUN: its meta.json is incomplete or damaged")


def test_the_meta_of_another_program(run_path: Path) -> None:
    (run_path / "meta.json").write_text('{"name": "something"}')
    assert line_of(run_path).startswith("RUN is not a run: its meta.json belongs to something else")


def test_a_newer_schema(run_path: Path) -> None:
    meta = read_unsealed(run_path / "meta.json")
    (run_path / "meta.json").write_text(json.dumps(meta | {"schema": 3}))
    assert line_of(run_path) == (
        "RUN was written by a newer version of seismograd (its schema is 3, this version reads 1) · pip install -U seismograd"
    )


def test_what_a_later_version_of_this_schema_added_does_not_disturb(run_path: Path) -> None:
    meta = read_unsealed(run_path / "meta.json")
    meta["run"]["later"] = meta["later"] = 1
    meta["statistics"].append(
        {
            "name": "later",
            "dtype": "<f4",
            "unit": "1",
            "description": "",
            "sampled": False,
            "width": 1,
            "more": 2,
        }
    )
    (run_path / "meta.json").write_text(json.dumps(meta))
    run = open_run(run_path)
    assert run.series("grad_norm").shape == (12, 2)
    assert np.isnan(run.series("later")).all()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"rows": "x", "lines": {}}', '{"rows": 12}', '{"rows": 12, "lines": 3}'],
)
def test_a_damaged_end_is_no_end_and_is_said(run_path: Path, text: str) -> None:
    (run_path / "end.json").write_text(text)
    run = open_run(run_path)
    assert len(run.steps) == 12
    assert not run.ended
    assert "end.json" in run.torn.render()


def test_a_name_that_no_file_can_have_is_said(tmp_path: Path) -> None:
    assert line_of(tmp_path / ("x" * 300)).startswith("cannot read RUN: ")


def test_a_run_of_a_version_with_fewer_fields_reads_by_its_own_dtypes(run_path: Path) -> None:
    steps = open_run(run_path).steps
    fewer = steps[["iteration", "loss", "sampled"]]
    without_checksums(run_path)
    meta = read_unsealed(run_path / "meta.json")
    meta["step_dtype"] = [field for field in meta["step_dtype"] if field[0] in fewer.dtype.names]
    (run_path / "meta.json").write_text(json.dumps(meta))
    (run_path / "steps.bin").write_bytes(
        fewer.astype([tuple(field) for field in meta["step_dtype"]]).tobytes()
    )
    run = open_run(run_path)
    assert run.steps.dtype == STEP_DTYPE
    assert run.steps["loss"].tolist() == steps["loss"].tolist()
    assert np.isnan(run.steps["lr"]).all()
    assert run.steps["flags"].tolist() == [0] * 12
    assert run.torn is None


def test_a_run_of_a_version_that_knew_no_ranks_reads(run_path: Path) -> None:
    meta = read_unsealed(run_path / "meta.json")
    del meta["rank_dtype"]
    (run_path / "meta.json").write_text(json.dumps(meta))
    for name in ("ranks.bin", "rank_ends.i64"):
        (run_path / name).unlink()
    run = open_run(run_path)
    assert (len(run.steps), len(run.ranks), run.torn) == (12, 0, None)
    assert [len(block.ranks) for block in run.blocks(6)] == [0, 0]


def test_a_run_without_steps_is_a_run(tmp_path: Path) -> None:
    run = open_run(synthetic.write_run(tmp_path / "run", []))
    assert len(run.steps) == len(run.events) == 0
    assert run.parameters == ()
    assert run.series("grad_norm").shape == (0, 0)
    assert run.samples("exponents")[1].shape == (0, 0, 64)
    assert run.ended
    assert run.torn is None
    assert list(run.blocks()) == []


def test_asking_for_a_statistic_that_is_not_there_names_those_that_are(run_path: Path) -> None:
    run = open_run(run_path)
    with pytest.raises(SeismogradError, match="no statistic named grad_nrom") as caught:
        run.series("grad_nrom")
    assert "grad_norm" in caught.value.line()
    with pytest.raises(SeismogradError, match="exponents"):
        run.series("exponents")
    with pytest.raises(SeismogradError, match="grad_norm"):
        run.samples("grad_norm")


def test_a_sampled_series_is_nan_between_samples(run_path: Path) -> None:
    series = open_run(run_path).series("weight_norm")
    assert np.isfinite(series[[0, 10]]).all()
    assert np.isnan(np.delete(series, [0, 10], axis=0)).all()


def test_a_run_is_never_overwritten(run_path: Path) -> None:
    before = {path: path.read_bytes() for path in run_path.rglob("*") if path.is_file()}
    with pytest.raises(SeismogradError, match="cannot write a run"):
        Writer(run_path, synthetic.info())
    assert before == {path: path.read_bytes() for path in run_path.rglob("*") if path.is_file()}
