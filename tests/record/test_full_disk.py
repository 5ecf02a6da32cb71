"""A disk that takes no more ends the recording, once and said, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from seismograd import open_run
from tests.record.processes import endless_block, run_python

RECORD = """
import resource, sys
from pathlib import Path
from seismograd.pipeline.pump import Pump
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

class Counter:
    num_rows = 0
    def observe(self, block): Counter.num_rows += len(block)
    def note(self, note): pass
    def close(self): print("closed after", Counter.num_rows)

writer = Writer(Path(sys.argv[1]), synthetic.info())
if sys.argv[2] != "none":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)  # Python ignores SIGXFSZ, so write() fails as on a full disk
pump = Pump([writer, Counter()], lambda name, error: print(name, type(error).__name__, error.errno), synchronous=True)
for block in (endless_block(first, 20) for first in range(0, 400, 20)):
    for row in block.split(1):
        pump.put(row)
pump.close()
writer.finding(synthetic.finding())
writer.close()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


WRITE_ONCE = """
import resource, sys
from pathlib import Path
from seismograd.record.writer import Writer
from seismograd.schema import STEP_DTYPE
from tests import synthetic

writer = Writer(Path(sys.argv[1]), synthetic.info())
limit = 98 * STEP_DTYPE.itemsize + 20  # a part of the 99th of 100 steps, and all of the other files
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for first in (0, 50):
        block = synthetic.block(
            [[1.0]] * 50, events=[], sample_rows=[], first_iteration=first
        )
        writer.observe(block)
except OSError as error:
    print(error.errno)
"""

FIND = """
import resource, sys
from pathlib import Path
from seismograd.pipeline.pump import Pump
from seismograd.record.writer import Writer
from tests import synthetic

class Rules:
    def observe(self, block): writer.finding(synthetic.finding(excerpt="x" * 9000))
    def note(self, note): pass
    def close(self): print("rules closed")

writer = Writer(Path(sys.argv[1]), synthetic.info())
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
pump = Pump([Rules(), writer], lambda name, error: print(name, type(error).__name__, error.errno), synchronous=True)
for row in synthetic.block([[1.0], [1.0]], sample_rows=[]).split(1):
    pump.put(row)
pump.close()
"""


def assert_recorded_until_full(run_path: Path, output: str, errno: int) -> None:
    failure, closed = output.splitlines()
    assert failure == f"Writer OSError {errno}"
    assert closed == "closed after 400"
    run = open_run(run_path)
    assert 0 < len(run.steps) < 400
    assert not run.ended
    assert run.findings == ()
    np.testing.assert_array_equal(
        run.series("grad_norm"), endless_block(0, len(run.steps)).values["grad_norm"]
    )
    assert run.torn is not None


def test_a_full_disk_ends_the_recording_and_not_the_rest(small_disk: Path) -> None:
    done = run_python(RECORD, small_disk / "run", "none")
    assert done.stderr == ""
    assert_recorded_until_full(small_disk / "run", done.stdout, 28)


def test_a_finding_that_the_disk_does_not_take_is_the_failure_of_the_writer_and_not_of_the_rules(
    tmp_path: Path,
) -> None:
    done = run_python(FIND, tmp_path / "run")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["Writer OSError 27", "rules closed"]
    run = open_run(tmp_path / "run")
    assert run.findings == ()
    assert run.torn is not None


def test_a_write_that_the_disk_took_a_part_of_is_a_failure(tmp_path: Path) -> None:
    assert run_python(WRITE_ONCE, tmp_path / "run").stdout == "27\n"
    run = open_run(tmp_path / "run")
    assert len(run.steps) == 50  # those of the batch that all files have whole
    assert run.torn is not None


@pytest.mark.parametrize("limit", [5000, 5001, 17000])
def test_a_limit_on_file_size_does_likewise(tmp_path: Path, limit: int) -> None:
    done = run_python(RECORD, tmp_path / "run", str(limit))
    assert done.stderr == ""
    assert_recorded_until_full(tmp_path / "run", done.stdout, 27)
