"""What can go wrong with a disk and a process costs the record at most what follows: the training
goes on, what was flushed reads back, and it is said once.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from seismograd import open_run
from seismograd.pipeline.pump import Pump
from seismograd.record.run_activity import is_going_on
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block, run_python

RECORD = """
import os, resource, shutil, sys
from pathlib import Path
from seismograd.pipeline.pump import Pump
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

path, fault = Path(sys.argv[1]), sys.argv[2]
said = []
writer = Writer(path, synthetic.info())
pump = Pump([writer], lambda name, error: said.append(type(error).__name__), synchronous=True)
steps = 0
for first in range(0, 400, 10):
    if first == 200:
        if fault == "descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        elif fault == "removed":
            shutil.rmtree(path)
        elif fault == "moved":
            path.rename(path.with_name("moved"))
        elif fault == "a file instead":
            shutil.rmtree(path)
            path.write_bytes(b"of somebody else")
    pump.put(endless_block(first, 10))
    pump.note(synthetic.note())
    steps += 10
pump.close()
print(steps, *said)
"""


@pytest.mark.parametrize(
    ("fault", "kept"),
    [("descriptors", "run"), ("removed", None), ("moved", "moved"), ("a file instead", None)],
)
def test_the_training_goes_on_and_it_is_said_once(
    tmp_path: Path, fault: str, kept: str | None
) -> None:
    done = run_python(RECORD, tmp_path / "run", fault)
    assert done.stderr == ""
    steps, *said = done.stdout.split()
    assert steps == "400"
    assert len(said) == 1
    if kept is not None:
        run = open_run(tmp_path / kept)
        assert run.num_rows >= 200
        expected = endless_block(0, run.num_rows).values["grad_norm"]
        np.testing.assert_array_equal(run.series("grad_norm"), expected)
    elif fault == "a file instead":
        assert (tmp_path / "run").read_bytes() == b"of somebody else"


def test_a_slow_disk_keeps_the_training_waiting_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write ends before all has been put; what does not fit into memory is dropped and counted."""
    said: list[str] = []
    writer = Writer(tmp_path / "run", synthetic.info())
    writer.observe(endless_block(0, 10))
    block = endless_block(10, 10)
    pump = Pump([writer], lambda name, error: said.append(name), interval_s=0.01, max_bytes=200_000)
    write, all_put, waited_for = os.write, threading.Event(), list[bool]()

    def write_slowly(descriptor: int, data: bytes) -> int:
        waited_for.append(all_put.wait(60))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_slowly)
    num_put = 0
    for first in range(10, 3010, 10):
        pump.put(block if first == 10 else endless_block(first, 10))
        num_put += 10
    all_put.set()
    pump.close()
    assert all(waited_for)  # else a put has waited for a write
    run = open_run(tmp_path / "run")
    assert pump.dropped > 0
    assert run.num_rows + pump.dropped == num_put + 10
    assert (run.ended, said) == (True, [])
    rows = run.steps["iteration"].astype(int)
    assert np.array_equal(run.steps["loss"], rows * 0.5)  # with gaps, and nothing mixed up


def test_a_clock_that_is_set_back_changes_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path / "run", synthetic.info())
    writer.observe(endless_block(0, 10))
    a_day_ago = time.time() - 86400
    monkeypatch.setattr(time, "time", lambda: a_day_ago)
    assert is_going_on(tmp_path / "run")
    writer.observe(endless_block(10, 10))
    writer.close()
    run = open_run(tmp_path / "run")
    assert (run.num_rows, run.ended, run.torn) == (20, True, None)
    np.testing.assert_array_equal(run.series("grad_norm"), endless_block(0, 20).values["grad_norm"])
