"""A record goes on from the row of a checkpoint as if it had never been interrupted, and what came
after that row is kept as a branch; whenever that is interrupted, nothing is lost.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from seismograd import SeismogradError, open_run
from seismograd.pipeline.batch import take_batches
from seismograd.record import layout
from seismograd.record.disk_use import disk_use
from seismograd.record.inspection import inspect
from seismograd.record.resuming import resume_record
from seismograd.record.run_listing import list_runs
from seismograd.record.run_lock import RunLock
from seismograd.record.writer import Writer
from seismograd.schema import (
    SAMPLE_FIELDS,
    Fact,
    Parameter,
    RowBatch,
    SampleBatch,
    SampleKind,
    SampleSubject,
    concatenate,
)
from seismograd.settings.record_settings import RecordSettings
from tests import synthetic
from tests.record.processes import NUM_PARAMETERS, endless_block, python_at_work
from tests.record.recordings import Training, assert_reads_back, trainings, write
from tests.record.test_killed import assert_is_a_beginning
from tests.record.test_pyramid import assert_every_view_is_true

PARAMETERS = synthetic.make_parameters(NUM_PARAMETERS)


def hand_on(writer: Writer, rows: Sequence[RowBatch], size: int) -> None:
    queue = deque(rows)
    while queue:
        head = deque(queue.popleft() for _ in range(min(size, len(queue))))
        while head:
            writer.observe(concatenate(take_batches(head, 2**20)))


@settings(max_examples=15, phases=[Phase.generate])
@given(data=st.data())
def test_a_record_that_goes_on_is_that_of_one_training(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    training = data.draw(trainings(min_rows=20))
    rows = training.rows
    stopped = data.draw(st.integers(1, len(rows)), "rows before the interruption")
    checkpoint = data.draw(st.integers(0, stopped), "row of the checkpoint")
    path = tmp_path_factory.mktemp("resumed") / "run"
    first = Training(rows[:stopped], training.num_elements)
    cuts = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    write(path, first, cuts, ended=data.draw(st.booleans()))
    before = open_run(path)

    elements = before.info.elements
    resumed = resume_record(path, checkpoint, before.parameters, elements=elements)
    assert open_run(path).num_rows == checkpoint
    hand_on(resumed.writer, rows[checkpoint:], 4)
    resumed.writer.close()

    run = open_run(path)
    assert run.ended
    assert run.torn is None
    assert run.damage is None
    assert_reads_back(run, rows, training.num_elements)
    assert inspect(path).damage == ()
    for num_columns in (1, 3, 50):
        assert_every_view_is_true(run, 0, len(rows), num_columns)
    assert len(run.branches) == int(checkpoint < stopped)
    for branch in run.branches:
        assert_reads_back(open_run(branch), rows[:stopped], training.num_elements)
        assert inspect(branch).damage == ()


def record(path: Path, num_rows: int, keep_raw: int | None = None) -> Writer:
    writer = Writer(path, synthetic.info(), RecordSettings(keep_raw=keep_raw))
    go_on(writer, 0, num_rows)
    return writer


def go_on(writer: Writer, first: int, num_rows: int) -> None:
    for begin in range(first, num_rows, 7):
        writer.sampled(sample(begin))
        writer.learn(Fact("schedule", begin))
        writer.observe(endless_block(begin, min(7, num_rows - begin)))


def sample(step: int) -> SampleBatch:
    kind = SampleKind.OPTIMIZER_STATE
    subjects = [SampleSubject(each.name) for each in PARAMETERS[: 1 + step % 3]]
    shape = len(subjects), len(SAMPLE_FIELDS[kind].names)
    return SampleBatch(kind, step, subjects, np.full(shape, float(step)))


def test_lines_and_samples_are_cut_at_the_step(tmp_path: Path) -> None:
    path, whole = tmp_path / "run", tmp_path / "whole"
    record(whole, 210).close()
    writer = record(path, 140)
    writer.finding(synthetic.finding(first_step=20, last_step=130))
    writer.finding(synthetic.finding(code="SG202", first_step=120, last_step=120))
    writer.note(synthetic.note(iteration=100))
    writer.note(synthetic.note(iteration=130))
    writer.learn(Fact("epochs", 3))  # what is told at an end, which was none
    writer.close()
    resumed = resume_record(path, 105, PARAMETERS)
    assert [(each.code, each.last_step) for each in resumed.before.findings] == [("SG201", 104)]
    go_on(resumed.writer, 105, 210)
    resumed.writer.close()
    assert (path / layout.README).read_text("utf-8").count("went back to a checkpoint") == 1
    run, other = open_run(path), open_run(whole)
    assert [each.iteration for each in run.notes] == [100]
    assert run.facts == other.facts
    ours, theirs = run.sampled("optimizer_state"), other.sampled("optimizer_state")
    assert ours.steps.tolist() == theirs.steps.tolist() == list(range(0, 210, 7))
    for one, another in zip(ours, theirs, strict=True):
        assert one.subjects == another.subjects
        np.testing.assert_array_equal(one.column("age"), another.column("age"))
    assert inspect(path).damage == ()
    (branch,) = run.branches
    left = open_run(branch)
    assert [each.first_step for each in left.findings] == [20, 120]
    assert [each.kind for each in left.notes] == ["failure", "failure", "left"]
    assert left.ended
    assert left.num_rows == 140
    assert len(left.facts) == 21


class KilledError(BaseException):
    """As a kill: nothing of the program runs behind it but what is not ours."""


CALLS = (
    (os, "truncate"),
    (os, "link"),
    (shutil, "copyfile"),
    (shutil, "rmtree"),
    (Path, "unlink"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "mkdir"),
    (Path, "write_bytes"),
)


def test_whenever_it_is_killed_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the disk is the last one once; of those that copy or remove one file
    after the other, some.
    """
    original = tmp_path / "original"
    record(original, 50).close()
    layout.segment_path(original, 1).mkdir()  # one that had only just begun
    calls: list[str] = []
    deadly = [10**6]

    def killing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) > deadly[0]:
                raise KilledError
            return function(*args, **kwargs)

        return call

    for owner, name in CALLS:
        monkeypatch.setattr(owner, name, killing(name, getattr(owner, name)))

    def resume(path: Path, deadly_call: int) -> Writer:
        calls.clear()
        deadly[0] = deadly_call
        try:
            return resume_record(path, 27, PARAMETERS).writer
        finally:
            deadly[0] = 10**6

    shutil.copytree(original, tmp_path / "whole")
    writer = resume(tmp_path / "whole", 10**6)
    made = tuple(calls)
    writer.close()
    many = ("link", "copyfile")
    chosen = [at for at, name in enumerate(made) if name not in many or at % 16 == 0]
    assert {made[at] for at in chosen} >= {name for _, name in CALLS if name != "mkdir"}
    for at in chosen:
        path = tmp_path / str(at)
        shutil.copytree(original, path)
        with pytest.raises(KilledError):
            resume(path, at)
        run = open_run(path)
        there = [run, *map(open_run, run.branches)]
        assert run.num_rows in (27, 50)
        assert max(each.num_rows for each in there) == 50
        for each in there:
            assert_is_a_beginning(each)
            assert each.damage is None
        again = resume(path, 10**6)
        go_on(again, 27, 60)
        again.close()
        run = open_run(path)
        assert (run.num_rows, run.ended, run.torn) == (60, True, None)
        assert_is_a_beginning(run)
        assert [open_run(branch).num_rows for branch in run.branches] == [50]
        assert inspect(path).damage == ()
        shutil.rmtree(path)


@pytest.mark.parametrize(("row", "left"), [(10, 45), (43, 42)])
def test_damage_stays_damage(row: int, left: int, tmp_path: Path) -> None:
    """Also where the batch is cut in which it is: then it is at the end, which is left out."""
    path = tmp_path / "run"
    record(path, 75).close()
    data = bytearray((path / layout.STEPS).read_bytes())
    data[row * 120 + 30] ^= 4
    (path / layout.STEPS).write_bytes(data)
    assert np.isnan(open_run(path).steps["loss"][row])
    resumed = resume_record(path, 45, PARAMETERS)
    assert resumed.before.num_rows == left
    go_on(resumed.writer, 45, 60)
    resumed.writer.close()
    run = open_run(path)
    assert run.steps["iteration"].tolist() == [*range(left), *range(45, 60)]
    expected = run.steps["iteration"] * 0.5
    expected[7:14] = np.nan if row == 10 else expected[7:14]  # the batch
    np.testing.assert_array_equal(run.steps["loss"], expected)
    assert run.torn is None


def test_steps_that_were_never_written_leave_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "run"
    record(path, 70).abandon()
    resumed = resume_record(path, 100, PARAMETERS)
    go_on(resumed.writer, 100, 110)
    resumed.writer.close()
    run = open_run(path)
    assert run.steps["iteration"].tolist() == [*range(70), *range(100, 110)]
    assert run.branches == ()


def test_old_raw_values_are_removed_from_what_there_was_too(tmp_path: Path) -> None:
    path = tmp_path / "run"
    record(path, 1000, keep_raw=300).close()
    resumed = resume_record(path, 900, PARAMETERS, RecordSettings(keep_raw=300))
    go_on(resumed.writer, 900, 2000)
    resumed.writer.close()
    run = open_run(path)
    assert run.num_rows == 2000
    first_kept = run.kept[-1][0]
    assert 1600 <= first_kept <= 1700
    # the part that was cut within has rows of which there is no summary
    assert sum(last - first + 1 for first, last in run.kept[:-1]) <= 128
    assert_is_a_beginning_where_kept(path)
    with pytest.raises(SeismogradError, match="raw values of so long ago"):
        resume_record(path, 1200, PARAMETERS)
    assert open_run(path).num_rows == 2000
    assert open_run(path).ended


def assert_is_a_beginning_where_kept(path: Path) -> None:
    run = open_run(path)
    norms = run.series("grad_norm")
    expected = run.steps["iteration"][:, None] + np.arange(1, NUM_PARAMETERS + 1) / 8
    kept = np.zeros(run.num_rows, np.bool_)
    for first, last in run.kept:
        kept[first : last + 1] = True
    np.testing.assert_array_equal(norms[kept], expected[kept])
    assert np.isnan(norms[~kept]).all()
    view = run.levels.parameters("grad_norm", 0, run.num_rows, 50)
    assert np.nanmax(view.high) == np.nanmax(norms)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (synthetic.make_parameters(NUM_PARAMETERS - 1), "this training has none"),
        (synthetic.make_parameters(shapes=[(3, 3)] * NUM_PARAMETERS), "has another shape"),
    ],
)
def test_another_model_is_refused_and_nothing_changed(
    parameters: tuple[Parameter, ...], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    record(path, 20).close()
    (path / layout.LOCK).write_bytes(b"")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(SeismogradError, match=said):
        resume_record(path, 10, parameters)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    resume_record(path, 10, (*PARAMETERS, Parameter("new", (1,), "float32", 1))).writer.close()


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    record(path, 20).close()
    meta = (path / layout.META).read_bytes()
    (path / layout.META).write_bytes(meta.replace(b'"unscaled"', b'"unscaled "'))
    text = meta.decode().split(', "crc32"')[0].replace('"schema": ', '"schema": -')
    (path / layout.META).write_text(text + "}\n", "utf-8")
    with pytest.raises(SeismogradError, match="another version"):
        resume_record(path, 10, PARAMETERS)


HOLDS = """
import fcntl, sys, time
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_record_that_is_being_written_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "run"
    writer = record(path, 20)
    with pytest.raises(SeismogradError, match="still being written"):  # by this very process
        resume_record(path, 10, PARAMETERS)
    writer.abandon()
    with python_at_work(HOLDS, path / layout.LOCK) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SeismogradError, match="still being written"):
            resume_record(path, 10, PARAMETERS)
    process.wait()
    resumed = resume_record(path, 10, PARAMETERS)
    resumed.writer.close()
    RunLock(path).close()


def test_a_record_whose_branches_are_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "run"
    record(path, 20).close()
    record(tmp_path / "runs" / "other", 20).close()
    (path / layout.BRANCHES).symlink_to(tmp_path)
    with pytest.raises(SeismogradError):
        open_run(path)
    assert sorted(each.run is None for each in list_runs(path.parent)) == [False, True]


def test_a_branch_takes_next_to_no_room(tmp_path: Path) -> None:
    path = tmp_path / "run"
    record(path, 2000).close()
    before = disk_use(path)
    resume_record(path, 1500, PARAMETERS).writer.close()
    assert before < disk_use(path) < 1.6 * before  # the steps and events alone are there twice
    assert disk_use(path / layout.BRANCHES / "1") == pytest.approx(before, rel=0.01)
