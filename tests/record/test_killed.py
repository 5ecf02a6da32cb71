"""A record is readable while it is written, and what was flushed survives `kill -9`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seismograd import Run, open_run
from tests.record.processes import endless_block, python_at_work

WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

writer = Writer(Path(sys.argv[1]), synthetic.info())
iteration = 0
for num_rows in itertools.cycle([1, 9, 2]):
    writer.observe(endless_block(iteration, num_rows))
    iteration += num_rows
    print(iteration, flush=True)
"""


def assert_is_a_beginning(run: Run) -> None:
    expected = endless_block(0, len(run.steps))
    np.testing.assert_array_equal(run.series("grad_norm"), expected.values["grad_norm"])
    np.testing.assert_array_equal(run.steps["loss"], expected.steps["loss"])
    assert run.events.tobytes() == expected.events.tobytes()
    assert len(run.samples("exponents")[0]) == run.steps["sampled"].sum()


@pytest.mark.parametrize("num_batches", [1, 7, 30])
def test_what_was_flushed_survives_a_kill(tmp_path: Path, num_batches: int) -> None:
    with python_at_work(WRITE_FOR_EVER, tmp_path / "run") as process:
        flushed = [int(process.stdout.readline()) for _ in range(num_batches)][-1]
        process.kill()
        process.wait()
    run = open_run(tmp_path / "run")
    assert len(run.steps) >= flushed
    assert not run.ended
    assert_is_a_beginning(run)


def test_a_run_reads_while_it_is_written(tmp_path: Path) -> None:
    with python_at_work(WRITE_FOR_EVER, tmp_path / "run") as process:
        num_rows = 0
        for _ in range(6):
            flushed = int(process.stdout.readline())
            run = open_run(tmp_path / "run")
            assert len(run.steps) >= max(flushed, num_rows)
            num_rows = len(run.steps)
            assert_is_a_beginning(run)
            assert sum(len(block) for block in run.blocks(50)) == num_rows
