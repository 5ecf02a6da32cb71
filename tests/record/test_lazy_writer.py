"""Of several processes with one directory, the one that has something to record takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from seismograd.errors import SeismogradError
from seismograd.record.lazy_writer import LazyWriter, paths_of_others
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.schema import Conclusion
from tests.synthetic import block, finding, info, note


def late(path: Path, leave: bool = False) -> LazyWriter:
    return LazyWriter(path, lambda position: Writer(position, info()), leave)


def test_nothing_is_there_before_the_first_iteration_and_notes_wait_for_it(tmp_path: Path) -> None:
    writer = late(tmp_path)
    writer.note(note())
    assert list(tmp_path.iterdir()) == []
    writer.observe(block(grad_norm=[[1.0, 2.0]]))
    writer.note(note())
    writer.finding(finding())
    writer.conclude(Conclusion((finding(),)))
    writer.close()
    run = open_run(tmp_path)
    assert (len(run.steps), run.notes, run.findings, run.ended) == (
        1,
        (note(), note()),
        (finding(),),
        True,
    )


def test_a_run_without_iterations_is_written_at_the_end(tmp_path: Path) -> None:
    writer = late(tmp_path)
    writer.note(note())
    writer.close()
    assert open_run(tmp_path).notes == (note(),)


def test_a_directory_that_another_has_taken_is_left_to_it(tmp_path: Path) -> None:
    parent, child, second = late(tmp_path), late(tmp_path, leave=True), late(tmp_path, leave=True)
    second.close()
    assert list(tmp_path.iterdir()) == []
    child.observe(block(grad_norm=[[1.0, 2.0]]))
    child.close()
    parent.note(note())
    parent.close()
    run = open_run(tmp_path)
    assert (run.series("grad_norm").tolist(), run.notes) == ([[1.0, 2.0]], ())


def test_each_process_that_trains_on_its_own_has_a_run_of_its_own(tmp_path: Path) -> None:
    writers = [late(tmp_path / "run", leave=True) for _ in range(3)]
    for number, writer in enumerate(writers):
        writer.observe(block(grad_norm=[[float(number), 1.0]]))
        writer.close()
    names = ["run", "run-process-2", "run-process-3"]
    assert [writer.path.name for writer in writers] == names
    for number, name in enumerate(names):
        assert open_run(tmp_path / name).series("grad_norm").tolist() == [[float(number), 1.0]]
    assert [path.name for path in paths_of_others(tmp_path / "run")] == names[1:]


def test_a_directory_that_cannot_be_made_is_no_reason_for_another(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SeismogradError):
        late(tmp_path / "run").observe(block(grad_norm=[[1.0, 1.0]]))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
