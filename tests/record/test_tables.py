"""A run as tables: what is read back by others are the numbers of the record, and what was not
measured is missing, which is not NaN and not 0.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seismograd
from seismograd.cli import main
from seismograd.errors import SeismogradError
from seismograd.record.reader import Run
from seismograd.record.tables import run_table
from seismograd.record.writer import Writer
from seismograd.schema import State
from tests.synthetic import block, finding, info, write_run
from tests.views.samples import small_net

pa: Any = pytest.importorskip("pyarrow")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_net(tmp_path / "runs" / "20260101T120000Z-train")


def test_the_table_has_the_numbers_of_the_record(run: Run) -> None:
    table = run.to_arrow()
    assert table.num_rows == run.num_rows * len(run.parameters)
    names = [parameter.name for parameter in run.parameters]
    state_names = [state.name.lower() for state in State]
    rows = table.to_pylist()
    for statistic in run.statistics:
        if statistic.width > 1 or statistic.name in ("update_ratio", "unmoved"):
            continue
        series = run.series(statistic.name)
        for number, row in enumerate(rows):
            step, column = divmod(number, len(names))
            assert row["step"] == run.steps["iteration"][step]
            assert row["parameter"] == names[column]
            assert row["state"] == state_names[run.states[step, column]]
            expected = float(series[step, column])
            if row[statistic.name] is None:  # not measured, or no gradient
                assert math.isnan(expected)
            else:
                np.testing.assert_equal(float(row[statistic.name]), expected)
    sampled, histograms = run.samples("exponents")
    whole = [row["exponents"] for row in rows]
    for number, step in enumerate(sampled):
        for column in range(len(names)):
            found = whole[int(step) * len(names) + column]
            if run.states[step, column] > State.ABSENT:
                assert found == histograms[number, column].tolist()


def test_parameters_steps_and_levels_are_chosen(run: Run) -> None:
    table = run.to_arrow(params="fc1.*", steps=slice(1, 3))
    assert set(table.column("parameter").to_pylist()) == {"fc1.weight", "fc1.bias"}
    assert set(table.column("step").to_pylist()) == {1, 2}
    assert run.to_arrow(steps=slice(-1, None)).column("step").to_pylist()[0] == 2
    assert run.to_arrow(steps=slice(2, 2)).num_rows == 0
    summary = run.to_arrow(level=1).to_pylist()
    assert len(summary) == len(run.parameters)
    series = run.series("grad_norm")
    for column, row in enumerate(summary):
        assert (row["first_step"], row["last_step"]) == (0, run.num_rows - 1)
        finite = series[:, column][np.isfinite(series[:, column])]
        if len(finite):
            assert row["grad_norm_low"] == finite.min()
            assert row["grad_norm_high"] == finite.max()
            assert row["grad_norm_last"] == finite[-1]
        counts = sum(row[f"steps_{state.name.lower()}"] for state in State)
        assert counts == run.num_rows
    assert "steps: 2, parameters: 2" in repr(run.table(params="fc1.*", steps=slice(1, 3)))


def test_steps_and_events_have_tables(run: Run) -> None:
    steps = run.to_arrow("steps")
    np.testing.assert_array_equal(steps.column("step").to_numpy(), run.steps["iteration"])
    np.testing.assert_array_equal(steps.column("loss").to_numpy(), run.steps["loss"])
    events = run.to_arrow("events")
    assert events.num_rows == len(run.events)


def test_pandas_polars_and_xarray(run: Run) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    xarray = pytest.importorskip("xarray")
    frame = run.to_pandas(params="fc1.weight")
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == run.num_rows
    column = [parameter.name for parameter in run.parameters].index("fc1.weight")
    norms = run.series("grad_norm")[:, column]
    np.testing.assert_array_equal(frame["grad_norm"].to_numpy(float, na_value=math.nan), norms)
    found = run.to_polars(params="fc1.weight")
    assert isinstance(found, polars.DataFrame)
    assert found.height == run.num_rows
    cube = run.to_xarray(params="fc1.*")
    assert isinstance(cube, xarray.Dataset)
    np.testing.assert_array_equal(cube["grad_norm"].sel(parameter="fc1.weight").values, norms)
    assert cube["exponents"].dims == ("step", "parameter", "bin")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_what_is_exported_is_read_back_by_others(
    run: Run, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    target = tmp_path / f"g{suffix}"
    assert main(["--lang", "en", "export", str(run.path), "-o", str(target)]) == 0
    rows = run.num_rows * len(run.parameters)
    assert f"({rows} rows)" in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.glob("*.part")) == []
    by_polars = {
        ".parquet": polars.read_parquet,
        ".arrow": polars.read_ipc,
        ".csv": polars.read_csv,
    }[suffix](target)
    assert by_polars.height == rows
    assert ("exponents" in by_polars.columns) == (suffix != ".csv")
    if suffix != ".arrow":
        found = duckdb.sql(f"select max(grad_norm) from '{target}' where state = 'finite'")
        finite = run.series("grad_norm")[run.states == State.FINITE]
        assert found.limit(1).fetchall()[0][0] == pytest.approx(finite.max())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.xlsx"], "use one of these suffixes: .parquet, .arrow, .csv"),
        (["-o", "nowhere/x.csv"], "nowhere does not exist"),
        (["--table", "weights"], "unknown table 'weights'"),
        (["--param", "fc9.*"], "no parameter matches 'fc9.*'"),
        (["--steps", "5"], "--steps does not accept '5'"),
        (["--steps", "a:b"], "--steps does not accept 'a:b'"),
        (["--level", "9"], "there is no level 9"),
        (["--level", "1", "--table", "steps"], "only the table of gradients has levels"),
    ],
)
def test_bad_input_is_one_line(
    run: Run,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--lang", "en", "export", str(run.path), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("gradients*"))


def test_a_growing_run_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    writer = Writer(path, info())
    writer.observe(block(np.ones((3, 2))))

    def grow(_: float) -> None:
        if len(steps) == 3:
            writer.observe(block(np.ones((2, 2)), first_iteration=3))
        else:
            writer.close()

    monkeypatch.setattr(run_table.time, "sleep", grow)
    steps: list[int] = []
    for batch in seismograd.open_run(path).table("steps").batches(follow=True):
        steps += batch.column("step").to_pylist()
    assert steps == [0, 1, 2, 3, 4]


def test_without_pyarrow_the_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SeismogradError) as raised:
        run.to_arrow()
    assert "pip install pyarrow" in raised.value.line()


def test_a_notebook_shows_the_run_and_its_findings_as_text_not_markup(tmp_path: Path) -> None:
    hostile = replace(
        finding(parameters=tuple(f"<img src=x onerror=alert({n})>" for n in range(7))),
        where="<script>.py:3",
        excerpt="if a < b:\n    \x1b[2J",
    )
    path = write_run(
        tmp_path / "run", [block(np.ones((3, 2)))], findings=[hostile], run_info=info(script="<b>")
    )
    shown = seismograd.open_run(path)._repr_html_()
    assert "&lt;b&gt;, steps: 3" in shown
    assert hostile.code in shown
    assert "and 2 more" in shown
    assert "&lt;script&gt;.py:3" in shown
    assert "if a &lt; b:\n    \\x1b[2J" in shown
    tags = set(re.findall(r"<(?!/)(\w+)", shown))
    assert tags == {"code", "div", "b", "br", "pre"}
