"""Of several processes with one directory, the one that has something to record takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from seismograd.errors import SeismogradError
from seismograd.record.late_writer import LateWriter
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from tests.synthetic import block, finding, info, note


def late(path: Path, leave: bool = False) -> LateWriter:
    return LateWriter(path, lambda: Writer(path, info()), leave)


def test_nothing_is_there_before_the_first_iteration_and_notes_wait_for_it(tmp_path: Path) -> None:
    writer = late(tmp_path)
    writer.note(note())
    assert list(tmp_path.iterdir()) == []
    writer.observe(block(grad_norm=[[1.0, 2.0]]))
    writer.note(note())
    writer.finding(finding())
    writer.conclude([finding()])
    writer.close()
    run = open_run(tmp_path)
    assert (len(run.steps), run.notes, run.findings, run.ended) == (1, (note(), note()), (finding(),), True)


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
    with pytest.raises(SeismogradError):
        late(tmp_path).observe(block(grad_norm=[[9.0, 9.0]]))
    child.close()
    parent.note(note())
    parent.close()
    run = open_run(tmp_path)
    assert (run.series("grad_norm").tolist(), run.notes) == ([[1.0, 2.0]], ())
