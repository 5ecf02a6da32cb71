"""With `--keep raw=N` the raw values of the last steps and around findings stay, the pyramid for
ever; what is gone is said, and never a number.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from seismograd import Run, SeismogradError, open_run
from seismograd.diagnosis.verdict import judge
from seismograd.record import layout, size_limit
from seismograd.record.checksums import CHECKS
from seismograd.record.disk_use import disk_use
from seismograd.record.inspection import inspect
from seismograd.record.seals import dumps_sealed
from seismograd.record.segment_documents import RemovedPart, removed_to_json
from seismograd.record.writer import Writer
from seismograd.schema import Conclusion, RowBatch, RuleStatus, State
from seismograd.settings.record_settings import RecordSettings, parse_keep
from seismograd.views.page_api.run_source import open_source
from seismograd.views.parity.run_parity import compare_parity
from seismograd.views.report.report_markdown import render
from seismograd.views.run_comparison import compare_runs
from seismograd.views.run_condition import condition
from tests import synthetic
from tests.record.processes import NUM_PARAMETERS, endless_block

KEPT = 100  # at least, in parts of 64


def record(path: Path, keep_raw: int | None, num_rows: int = 1000, step: int = 7) -> Writer:
    writer = Writer(path, synthetic.info(), RecordSettings(keep_raw=keep_raw))
    for first in range(0, num_rows, step):
        writer.observe(endless_block(first, min(step, num_rows - first)))
        if first <= 300 < first + step:
            writer.finding(synthetic.finding(first_step=300, last_step=300))
    return writer


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same training with all raw values, and with some."""
    folder = tmp_path_factory.mktemp("keep")
    record(folder / "all", None).close()
    record(folder / "some", KEPT).close()
    return open_run(folder / "all"), open_run(folder / "some")


def test_the_last_steps_and_those_around_a_finding_are_there(both: tuple[Run, Run]) -> None:
    _, run = both
    assert run.num_rows == 1000
    assert run.kept == ((192, 447), (896, 999))
    assert run.torn is None
    assert "192–447, 896–999" in (run.not_kept.render() if run.not_kept else "")


def test_what_is_kept_is_what_was_written_and_the_rest_not_measured(both: tuple[Run, Run]) -> None:
    whole, run = both
    kept = np.zeros(1000, np.bool_)
    for first, last in run.kept:
        kept[first : last + 1] = True
    for name in ("grad_norm", "zeros", "applied_norm", "weight_norm"):
        np.testing.assert_array_equal(run.series(name)[kept], whole.series(name)[kept])
        assert np.isnan(run.series(name)[~kept]).all()
    np.testing.assert_array_equal(run.states[kept], whole.states[kept])
    assert (run.states[~kept] == State.NOT_MEASURED).all()
    assert run.steps.tobytes() == whole.steps.tobytes()
    assert run.events.tobytes() == whole.events.tobytes()
    rows, values = run.samples("exponents")
    all_rows, all_values = whole.samples("exponents")
    np.testing.assert_array_equal(rows, all_rows[kept[all_rows]])
    np.testing.assert_array_equal(values, all_values[kept[all_rows]])
    np.testing.assert_array_equal(
        run.row_reader.samples("exponents", rows, [1]),
        whole.row_reader.samples("exponents", rows, [1]),
    )


@pytest.mark.parametrize("stretch", [(0, 1000), (0, 100), (150, 250), (440, 1000), (13, 14)])
@pytest.mark.parametrize("num_columns", [3, 50, 1000])
def test_a_picture_of_any_stretch_shows_all_steps(
    both: tuple[Run, Run], stretch: tuple[int, int], num_columns: int
) -> None:
    whole, run = both
    view = run.levels.parameters("grad_norm", *stretch, num_columns)
    norms = whole.series("grad_norm")
    assert view.starts[0] <= stretch[0]
    assert view.stops[-1] >= stretch[1]
    for start, stop, low, high, counts in zip(
        view.starts, view.stops, view.low, view.high, view.counts, strict=True
    ):
        np.testing.assert_array_equal(low, norms[start:stop].min(axis=0))
        np.testing.assert_array_equal(high, norms[start:stop].max(axis=0))
        assert (counts[State.FINITE] == stop - start).all()


def test_rows_that_are_not_kept_are_in_no_block(both: tuple[Run, Run]) -> None:
    _, run = both
    blocks = list(run.blocks(50))
    told = np.concatenate([block.steps["iteration"] for block in blocks])
    assert told.tolist() == [*range(192, 448), *range(896, 1000)]
    assert all((block.state == State.FINITE).all() for block in blocks)


def test_it_takes_less_of_the_disk(both: tuple[Run, Run]) -> None:
    whole, run = both
    assert disk_use(run.path / layout.SEGMENTS) < 0.5 * disk_use(whole.path / layout.SEGMENTS)


def test_every_byte_that_is_there_has_its_checksum(both: tuple[Run, Run]) -> None:
    inspection = inspect(both[1].path)
    assert not inspection.damage
    part = next(path for path in both[1].path.rglob("grad_norm.f64"))
    content = bytearray(part.read_bytes())
    content[100] ^= 4
    part.write_bytes(content)
    assert [each.file for each in inspect(both[1].path).damage] == [
        part.relative_to(both[1].path).as_posix()
    ]
    content[100] ^= 4
    part.write_bytes(content)


def test_the_verdict_is_that_of_the_rules_that_saw_all_steps(tmp_path: Path) -> None:
    for name, concluded in (("killed", False), ("ended", True)):
        writer = record(tmp_path / name, KEPT)
        if concluded:
            status = RuleStatus("SG202", "nonfinite-loss", "clear", synthetic.note().message)
            writer.conclude(Conclusion((synthetic.finding(code="SG301"),), (status,)))
            writer.close()
        else:
            writer.abandon()
        verdict = judge(open_run(tmp_path / name))
        statuses = {each.code: each.status for each in verdict.statuses}
        assert len(verdict.findings) == 1
        assert statuses["SG202"] == ("clear" if concluded else "not evaluated")
        assert statuses["SG104"] == "not evaluated"


def test_a_change_of_parameters_loses_no_step_of_the_picture(tmp_path: Path) -> None:
    """Where a segment ends, its last rows are no whole cell."""
    writer = Writer(tmp_path / "run", synthetic.info(), RecordSettings(keep_raw=1))
    first = 0
    for num_parameters, num_rows in ((2, 77), (3, 70), (2, 300)):
        batch = _numbered(first, num_rows, num_parameters)
        writer.observe(batch)
        first += num_rows
    writer.close()
    run = open_run(tmp_path / "run")
    assert run.kept[0][0] >= 147
    for num_columns in (1, 9, 40, 447):
        view = run.levels.parameters("grad_norm", 0, run.num_rows, num_columns)
        assert view.counts[:, State.FINITE, 0].sum() == 447
        for start, stop, high in zip(view.starts, view.stops, view.high[:, 0], strict=True):
            assert high == stop
            assert start < stop


def _numbered(first: int, num_rows: int, num_parameters: int) -> RowBatch:
    norms = np.repeat(np.arange(first, first + num_rows)[:, None] + 1.0, num_parameters, axis=1)
    return synthetic.block(norms, first_iteration=first, sample_rows=[])


def test_a_removal_that_was_interrupted_counts_as_one(tmp_path: Path) -> None:
    record(tmp_path / "run", KEPT).abandon()
    before = open_run(tmp_path / "run")
    part = next(iter(sorted((tmp_path / "run").glob("segments/0000/raw/*"))))
    assert before.kept[0][0] == int(part.name) * 64
    # told, and only some of the files are gone
    told = dumps_sealed(removed_to_json(RemovedPart(int(part.name), 64))) + b"\n"
    with (tmp_path / "run/segments/0000/removed.jsonl").open("ab") as file:
        file.write(told)
    (part / "state.u8").unlink()
    run = open_run(tmp_path / "run")
    assert run.num_rows == before.num_rows
    assert run.kept[0][0] == before.kept[0][0] + 64


def test_a_part_that_was_cut_off_ends_the_record_there(tmp_path: Path) -> None:
    record(tmp_path / "run", KEPT).abandon()
    last = sorted((tmp_path / "run").glob("segments/0000/raw/*"))[-1]
    path = last / "grad_norm.f64"
    path.write_bytes(path.read_bytes()[: 8 * NUM_PARAMETERS * 9])
    run = open_run(tmp_path / "run")
    first = int(last.name) * 64
    assert first < run.num_rows <= first + 9
    assert run.torn is not None


@pytest.mark.parametrize("has_log", [True, False])
def test_an_earlier_part_of_which_a_file_was_cut_is_not_measured_there(
    both: tuple[Run, Run], tmp_path: Path, has_log: bool
) -> None:
    whole = both[1]
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    part = sorted(path.glob("segments/0000/raw/*"))[1]
    first = int(part.name) * 64
    if not has_log:
        (part / CHECKS).unlink()
    for file in sorted(part.glob("*.[fu]*")):
        content = file.read_bytes()
        for num_bytes in (len(content) * 2 // 5, None):
            file.unlink() if num_bytes is None else file.write_bytes(content[:num_bytes])
            run = open_run(path)
            assert run.num_rows == 1000
            assert np.isin(run.states, (State.NOT_MEASURED, State.FINITE)).all()
            for name in ("grad_norm", "zeros", "applied_norm", "weight_norm"):
                found, written = run.series(name), whole.series(name)
                there = ~np.isnan(found)
                np.testing.assert_array_equal(found[there], written[there])
                if file.name.startswith(name):
                    assert np.isnan(found[first + 63]).all()
            rows, values = run.samples("exponents")
            np.testing.assert_array_equal(
                run.row_reader.samples("exponents", rows, range(NUM_PARAMETERS)), values
            )
            view = run.levels.parameters("grad_norm", 0, 1000, 1000)
            assert set(np.flatnonzero(view.counts.sum(axis=(0, 2)))) <= {0, int(State.FINITE)}
            assert sum(len(block) for block in run.blocks()) <= 360
            assert not has_log or inspect(path).damage
        file.write_bytes(content)


def test_all_steps_within_the_limit_are_there(tmp_path: Path) -> None:
    record(tmp_path / "run", 5000, 300).close()
    run = open_run(tmp_path / "run")
    assert (run.kept, run.not_kept) == ((), None)
    assert not np.isnan(run.series("grad_norm")).any()


@pytest.mark.parametrize(("text", "steps"), [(None, None), ("raw=all", None), ("raw=500", 500)])
def test_the_option_says_how_many(text: str | None, steps: int | None) -> None:
    assert parse_keep(text) == steps


@pytest.mark.parametrize("text", ["", "raw", "raw=0", "raw=-3", "500", "raw=5.5", "all"])
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SeismogradError, match="--keep needs raw=STEPS or raw=all"):
        parse_keep(text)


def test_two_records_of_one_training_compare_as_the_same(both: tuple[Run, Run]) -> None:
    comparison, parity = compare_runs(*both), compare_parity(*both)
    assert all(each.first == each.second for each in comparison.differences)
    assert comparison.differences
    assert parity.num_steps == 256 + 104
    assert parity.found.step is None


def test_the_condition_and_every_report_say_which_steps_there_are(both: tuple[Run, Run]) -> None:
    _, run = both
    told = "raw values of steps 192–447, 896–999 only"
    source = open_source(run)
    assert any(told in line.plain for line in condition(run))
    assert told in render(source)
    assert b"192\xe2\x80\x93447" in source.meta() or b"192\\u2013447" in source.meta()


def test_a_size_is_kept_by_removing_what_is_old_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both options the record goes on for longer."""
    monkeypatch.setattr(size_limit, "LOOKED_AT_EVERY_S", 0.0)
    num_rows: list[int] = []
    for keep in (None, 1):
        settings = RecordSettings(max_bytes=700_000, keep_raw=keep)
        writer = Writer(tmp_path / str(keep), synthetic.info(), settings)
        for first in range(0, 3000, 50):
            writer.observe(endless_block(first, 50))
        writer.close()
        num_rows.append(open_run(tmp_path / str(keep)).num_rows)
    assert num_rows[0] < num_rows[1]
