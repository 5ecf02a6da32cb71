"""The pyramid: any view of any stretch says of its rows what the rows themselves say, however it
was cut or whether it is there at all.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seismograd import Run, open_run
from seismograd.record.layout import LEVELS, level_path
from seismograd.record.pyramid.cells import FACTOR, NUM_STATES, PYRAMID_STATISTICS, record_dtype
from seismograd.record.pyramid.pyramid_view import PyramidView
from seismograd.record.pyramid.step_scalars import STEP_SCALARS, step_states, step_values
from seismograd.schema import RowBatch, State
from tests import synthetic
from tests.record.edits import without_checksums
from tests.record.processes import endless_block, python_at_work
from tests.record.recordings import Training, trainings, write
from tests.record.test_killed import WRITE_FOR_EVER

NO_EVENTS: list[np.ndarray] = []


def assert_sums_up(
    view: PyramidView, states: np.ndarray, values: np.ndarray, start: int, stop: int
) -> None:
    """The columns follow each other over the stretch, and each says of its rows what `states`
    and `values` (T, P) hold.
    """
    assert view.starts[0] <= start
    assert view.stops[-1] >= stop
    np.testing.assert_array_equal(view.starts[1:], view.stops[:-1])
    for column, (first, end) in enumerate(zip(view.starts, view.stops, strict=True)):
        rows, numbers = states[first:end], values[first:end]
        assert len(rows) == end - first
        for state in range(NUM_STATES):
            np.testing.assert_array_equal(view.counts[column, state], (rows == state).sum(axis=0))
        finite = np.where((rows > State.ABSENT) & np.isfinite(numbers), numbers, np.nan)
        np.testing.assert_array_equal(view.low[column], np.fmin.reduce(finite, axis=0))
        np.testing.assert_array_equal(view.high[column], np.fmax.reduce(finite, axis=0))
        for parameter in range(states.shape[1]):
            known = finite[~np.isnan(finite[:, parameter]), parameter]
            np.testing.assert_array_equal(
                view.last[column, parameter], known[-1] if len(known) else np.nan
            )


def assert_every_view_is_true(run: Run, start: int, stop: int, num_columns: int) -> None:
    if stop <= start:
        assert len(run.levels.parameters("grad_norm", start, stop, num_columns)) == 0
        return
    for name in PYRAMID_STATISTICS:
        view = run.levels.parameters(name, start, stop, num_columns)
        assert_sums_up(view, run.states, run.series(name), start, stop)
    pieces = list(
        run.levels.stretches(
            PYRAMID_STATISTICS[0], start, stop, num_columns, at_once=3 * len(run.parameters)
        )
    )
    whole = run.levels.parameters(PYRAMID_STATISTICS[0], start, stop, num_columns)
    for name in ("starts", "stops", "counts", "low", "high", "last"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(piece, name) for piece in pieces]), getattr(whole, name)
        )
    some = list(range(0, len(run.parameters), 2))
    view = run.levels.parameters("grad_norm", start, stop, num_columns, some)
    assert_sums_up(view, run.states[:, some], run.series("grad_norm")[:, some], start, stop)
    assert_sums_up(
        run.levels.steps(start, stop, num_columns),
        step_states(run.steps, run.states),
        step_values(run.steps),
        start,
        stop,
    )


def _numbered(row: RowBatch, iteration: int) -> RowBatch:
    steps = row.steps.copy()
    steps["iteration"] = iteration
    return replace(row, steps=steps)


@st.composite
def stretched(draw: st.DrawFn) -> Training:
    """A training whose rows come again and again, so that it has several levels."""
    training = draw(trainings(min_rows=1))
    times = draw(st.sampled_from([1, 9, 30]))
    again = [row for row in training.rows for _ in range(times)]
    rows = [_numbered(row, iteration) for iteration, row in enumerate(again)]
    return Training(tuple(rows), training.num_elements, (), ())


@settings(max_examples=25)
@given(
    stretched(),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(1, 50),
    st.booleans(),
    st.data(),
)
def test_every_level_has_the_extremes_and_the_states_of_the_rows(
    training: Training, cuts: list[int], num_columns: int, with_levels: bool, data: st.DataObject
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "run"
        write(path, training, cuts)
        if not with_levels:
            for levels in list(path.rglob(LEVELS)):
                shutil.rmtree(levels)
        start = data.draw(st.integers(0, len(training.rows)), label="start")
        stop = data.draw(st.integers(start, len(training.rows)), label="stop")
        run = open_run(path)
        assert_every_view_is_true(run, start, stop, num_columns)
        assert_every_view_is_true(run, 0, len(training.rows), 1)


@settings(max_examples=10)
@given(st.data())
def test_a_pyramid_cut_at_any_byte_is_still_true(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        norms = np.random.default_rng(0).normal(size=(100, 2)) ** 2
        path = synthetic.write_run(
            Path(directory) / "run",
            [synthetic.block(norms, events=NO_EVENTS)],
            ended=data.draw(st.booleans()),
        )
        for file in sorted(path.rglob("*.bin")):
            if file.parent.name == LEVELS:
                file.write_bytes(
                    file.read_bytes()[
                        : data.draw(
                            st.integers(0, file.stat().st_size), label=str(file.relative_to(path))
                        )
                    ]
                )
        run = open_run(path)
        assert run.torn is None
        assert_every_view_is_true(run, 0, 100, data.draw(st.integers(1, 110)))


def test_a_killed_run_has_true_views(tmp_path: Path) -> None:
    with python_at_work(WRITE_FOR_EVER, tmp_path / "run") as process:
        while int(process.stdout.readline()) < 200:
            pass
        process.kill()
        process.wait()
    run = open_run(tmp_path / "run")
    assert level_path(tmp_path / "run" / "segments" / "0000", 1).stat().st_size
    np.testing.assert_array_equal(
        run.series("grad_norm"), endless_block(0, run.num_rows).values["grad_norm"]
    )
    for num_columns in (1, 7, 60):
        assert_every_view_is_true(run, 0, run.num_rows, num_columns)


@pytest.mark.parametrize("ended", [True, False])
def test_cells_that_are_held_for_a_while_are_missed_by_nobody(tmp_path: Path, ended: bool) -> None:
    norms = np.random.default_rng(0).random((2500, 60))
    blocks = [
        synthetic.block(norms[start : start + 100], first_iteration=start, events=NO_EVENTS)
        for start in range(0, 2500, 100)
    ]
    run = open_run(synthetic.write_run(tmp_path / "run", blocks, ended=ended))
    held = level_path(tmp_path / "run" / "segments" / "0000", 2).stat().st_size
    dtypes = {"grad_norm": "<f8", "applied_norm": "<f4", "update_ratio": "<f4"}
    num_held, rest = divmod(held, record_dtype(2, 60, dtypes).itemsize)
    assert rest == 0
    assert num_held == 39 if ended else 0 < num_held < 39
    for num_columns in (3, 30, 300):
        assert_every_view_is_true(run, 0, run.num_rows, num_columns)


def test_a_run_that_says_nothing_of_levels_opens(tmp_path: Path) -> None:
    path = synthetic.write_run(
        tmp_path / "run", [synthetic.block(np.ones((100, 2)), events=NO_EVENTS)]
    )
    meta = without_checksums(path) / "meta.json"
    meta.write_text(meta.read_text("utf-8").replace('"levels"', '"of_another_kind"'), "utf-8")
    for file in path.rglob(f"{LEVELS}/*"):
        file.write_bytes(b"of another kind")
    assert_every_view_is_true(open_run(path), 3, 100, 10)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2^18 steps of two parameters; one step in the middle has a spike, another one a NaN, and
    one gradient is zero once.
    """
    path = tmp_path_factory.mktemp("long") / "run"
    norms = np.ones((2**18, 2))
    norms[123_457, 0], norms[200_003, 1], norms[77_777, 1] = 1e6, np.nan, 0
    size = 2**15
    blocks = [
        synthetic.block(
            norms[row : row + size], first_iteration=row, events=NO_EVENTS, sample_rows=[]
        )
        for row in range(0, 2**18, size)
    ]
    return synthetic.write_run(path, blocks)


@pytest.mark.parametrize("num_columns", [1, 3, 100, 1000])
def test_a_spike_of_one_step_is_in_every_view(long_run: Path, num_columns: int) -> None:
    levels = open_run(long_run).levels
    num = 2**18
    while num > num_columns:
        start = min(max(0, 123_457 - num // 3), 2**18 - num)
        view = levels.parameters("grad_norm", start, start + num, num_columns)
        (column,) = np.flatnonzero((view.starts <= 123_457) & (view.stops > 123_457))
        assert view.high[column, 0] == 1e6
        assert np.nanmax(np.delete(view.high[:, 0], column), initial=1) == 1
        num //= 5
    whole = levels.parameters("grad_norm", 0, 2**18, num_columns)
    assert whole.counts[:, State.NONFINITE].sum(axis=0).tolist() == [0, 1]
    assert whole.counts[:, State.ZERO].sum(axis=0).tolist() == [0, 1]
    assert (
        levels.steps(0, 2**18, num_columns)
        .counts[:, State.NONFINITE, STEP_SCALARS.index("grad_norm")]
        .sum()
        == 1
    )


def test_a_view_of_a_long_run_does_not_touch_its_rows(long_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(long_run, path)
    rows = path / "segments" / "0000" / "grad_norm.f64"
    rows.write_bytes(b"\xff" * rows.stat().st_size)  # of the same size, every number a NaN
    for num_columns in (1, 100, 1000):
        before, after = (
            open_run(each).levels.parameters("grad_norm", 0, 2**18, num_columns)
            for each in (long_run, path)
        )
        assert num_columns <= len(after) <= 1.5 * num_columns + FACTOR
        np.testing.assert_array_equal(after.high, before.high)
        np.testing.assert_array_equal(after.counts, before.counts)
