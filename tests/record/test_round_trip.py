"""What is written is what is read, however it was cut into batches and however it is cut into
blocks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seismograd import open_run
from seismograd.schema import STATISTICS, RowBatch, State, recorded
from tests import synthetic
from tests.record.recordings import (
    OPTIMIZERS,
    SITES,
    Training,
    assert_reads_back,
    trainings,
    write,
)
from tests.single_rows import SingleRow, single_rows

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=3)


@given(trainings(), sizes)
def test_a_run_reads_back_however_it_was_batched(training: Training, cuts: list[int]) -> None:
    with TemporaryDirectory() as directory:
        write(Path(directory) / "run", training, cuts)
        run = open_run(Path(directory) / "run")
        assert_reads_back(run, training.rows, training.num_elements)
        assert run.ended
        assert run.torn is None
        assert run.findings == training.findings
        assert run.notes == training.notes
        if training.rows:
            assert run.sites == SITES
            assert run.optimizers == OPTIMIZERS


@given(trainings(min_rows=1), sizes, st.integers(1, 9))
def test_blocks_of_any_size_are_the_run(training: Training, cuts: list[int], size: int) -> None:
    with TemporaryDirectory() as directory:
        write(Path(directory) / "run", training, cuts)
        run = open_run(Path(directory) / "run")
        blocks = list(run.blocks(size))
        assert all(0 < len(block) <= size for block in blocks)
        assert np.concatenate([block.steps for block in blocks]).tobytes() == run.steps.tobytes()
        assert np.concatenate([block.events for block in blocks]).tobytes() == run.events.tobytes()
        assert np.concatenate([block.ranks for block in blocks]).tobytes() == run.ranks.tobytes()
        np.testing.assert_array_equal(
            np.concatenate([block.elements for block in blocks]), run.elements[1]
        )
        rows = (row for batch in training.rows for row in single_rows(batch))
        for block in blocks:
            for index in range(len(block)):
                _assert_is_row(block, index, next(rows))


def _assert_is_row(block: RowBatch, index: int, row: SingleRow) -> None:
    assert block.parameters == row.parameters
    np.testing.assert_array_equal(block.state[index], row.state)
    own = block.events[block.events["iteration"] == block.steps["iteration"][index]]
    assert own.tobytes() == row.events.tobytes()
    assert (
        block.ranks[block.ranks["iteration"] == block.steps["iteration"][index]].tobytes()
        == row.ranks.tobytes()
    )
    for name, values in row.values.items():
        assert_same(block.values[name][index], values, name)
    assert set(block.samples) == {statistic.name for statistic in STATISTICS if statistic.sampled}
    assert (index in block.sample_rows) == bool(row.samples)
    for name, values in row.samples.items():
        assert_same(block.samples[name][block.sample_rows.tolist().index(index)], values, name)


def assert_same(found: np.ndarray, given_values: np.ndarray, name: str) -> None:
    dtype = np.dtype(next(statistic.dtype for statistic in STATISTICS if statistic.name == name))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, recorded(given_values, dtype.str))


@settings(max_examples=20)
@given(trainings(min_rows=3), st.integers(-9, 9), st.integers(-9, 9))
def test_a_stretch_of_blocks_is_that_slice_of_the_run(
    training: Training, start: int, stop: int
) -> None:
    with TemporaryDirectory() as directory:
        write(Path(directory) / "run", training, [4])
        run = open_run(Path(directory) / "run")
        steps = [block.steps for block in run.blocks(2, start, stop)]
        assert b"".join(each.tobytes() for each in steps) == run.steps[start:stop].tobytes()


def test_a_statistic_measured_from_some_step_on_is_nan_before(tmp_path: Path) -> None:
    first, second = (
        synthetic.block(np.ones((4, 2)), first_iteration=iteration, sample_rows=[1, 2])
        for iteration in (0, 4)
    )
    without = {name: values for name, values in first.values.items() if name != "grad_max"}
    few = {"weight_norm": first.samples["weight_norm"]}
    run = open_run(
        synthetic.write_run(tmp_path / "run", [replace(first, values=without, samples=few), second])
    )
    assert np.isnan(run.series("grad_max")).all(axis=1).tolist() == [True] * 4 + [False] * 4
    assert run.series("grad_norm").tolist() == [[1.0, 1.0]] * 8
    assert run.samples("weight_norm")[0].tolist() == [1, 2, 5, 6]
    assert run.samples("exponents")[0].tolist() == [5, 6]
    assert run.torn is None
    assert ["grad_max" in block.values for block in run.blocks(3)] == [False, False, True, True]


def test_the_numbers_of_a_parameter_are_joined_by_its_name(tmp_path: Path) -> None:
    one = synthetic.block([[1.0, 2.0]], parameters=synthetic.make_parameters(names=["a", "b"]))
    grown = synthetic.make_parameters(names=["c", "b"], shapes=[(2,), (5, 5)])
    two = synthetic.block([[3.0, 4.0]], parameters=grown, first_iteration=1)
    run = open_run(synthetic.write_run(tmp_path / "run", [one, two]))
    assert [(parameter.name, parameter.shape) for parameter in run.parameters] == [
        ("a", (8, 8)),
        ("b", (5, 5)),
        ("c", (2,)),
    ]
    np.testing.assert_array_equal(run.series("grad_norm"), [[1.0, 2.0, np.nan], [np.nan, 4.0, 3.0]])
    assert run.states.tolist() == [
        [State.FINITE, State.FINITE, State.NOT_MEASURED],
        [State.NOT_MEASURED, State.FINITE, State.FINITE],
    ]


def test_a_non_finite_gradient_keeps_the_number_that_was_measured(tmp_path: Path) -> None:
    absent = [[State.NONFINITE, State.NONFINITE, State.ABSENT, State.ZERO]]
    block = synthetic.block([[np.nan, np.inf, 7.0, 0.0]], state=absent)
    np.testing.assert_array_equal(
        open_run(synthetic.write_run(tmp_path / "run", [block])).series("grad_norm"),
        [[np.nan, np.inf, np.nan, 0.0]],
    )


def test_every_json_line_and_document_is_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    write(tmp_path / "run", Training((), 0), [1])
    for path in (tmp_path / "run").rglob("*.json*"):
        for document in (
            path.read_text("utf-8").splitlines()
            if path.suffix == ".jsonl"
            else [path.read_text("utf-8")]
        ):
            json.loads(document, parse_constant=refuse)


def test_nothing_about_the_machine_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    write(tmp_path / "run", Training((), 0), [1])
    meta = json.loads((tmp_path / "run" / "meta.json").read_text("utf-8"))
    assert set(meta["run"]) == {
        "script",
        "created_utc",
        "seismograd_version",
        "torch_version",
        "python_version",
        "level",
        "every",
        "elements",
        "fact_kinds",
    }
    assert not [
        path
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and b"hunter2" in path.read_bytes()
    ]


def test_the_order_in_which_statistics_come_makes_no_new_segment(tmp_path: Path) -> None:
    blocks = [
        synthetic.block([[1.0, 2.0]] * 3, first_iteration=first, sample_rows=[0])
        for first in range(0, 12, 3)
    ]
    for each in blocks[1::2]:
        object.__setattr__(each, "values", dict(reversed(each.values.items())))
        object.__setattr__(each, "samples", dict(reversed(each.samples.items())))
    path = synthetic.write_run(tmp_path / "run", blocks)
    assert [each.name for each in (path / "segments").iterdir()] == ["0000"]
    run = open_run(path)
    for name in ("grad_norm", "update_ratio", "zeros"):
        np.testing.assert_array_equal(
            run.series(name), np.concatenate([each.values[name] for each in blocks])
        )
    np.testing.assert_array_equal(
        run.samples("weight_norm")[1],
        np.concatenate([each.samples["weight_norm"] for each in blocks]),
    )
