"""After a power cut a record holds at least what was waited for with `--sync`, and nothing false."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seismograd.errors import SeismogradError
from seismograd.record import layout
from seismograd.record.checksums import CHECKS
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.schema import STATISTICS, STEP_DTYPE
from seismograd.settings.record_settings import RecordSettings
from tests import synthetic
from tests.record.fuzzing import NUM_EXAMPLES
from tests.record.processes import endless_block

# of each file whether it came to the disk at all, how much more of it than was waited for, and how
# many zeros follow: of as many bytes as there are, counted around
Cut = tuple[int, int, int]
CUT = st.tuples(st.integers(0, 1), st.integers(-1, 2**12), st.integers(0, 2**12))
FILES = (
    *layout.CHECKED_OF_RUN,
    *layout.LINE_FILES,
    CHECKS,
    *(f"segments/0000/{name}" for name in (*layout.checked_of_segment(STATISTICS), CHECKS)),
)


@dataclass(frozen=True)
class Disk:
    """A record, what of each file a disk must hold after a power cut, and how many rows that is."""

    record: Path
    synced: dict[str, int]
    num_rows: int


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """Ten batches waited for, and ten more that were only handed to the operating system."""
    path = tmp_path_factory.mktemp("power") / "run"
    synced: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:

        def wait(descriptor: int) -> None:
            file = Path(f"/proc/self/fd/{descriptor}").readlink()
            if file.is_file():
                synced[str(file.relative_to(path))] = file.stat().st_size

        patch.setattr(os, "fsync", wait)
        writer = Writer(path, synthetic.info(), RecordSettings(sync_s=1e-9))
        for start in range(0, 40, 4):
            writer.observe(endless_block(start, 4))
            writer.note(synthetic.note())
        patch.setattr(os, "fsync", lambda descriptor: None)
        at_cut = dict(synced)
        for start in range(40, 80, 4):
            writer.observe(endless_block(start, 4))
            writer.note(synthetic.note())
        writer.finding(synthetic.finding())
    yield Disk(path, at_cut, 40)
    writer.abandon()


def assert_is_true(record: Path, num_rows: int) -> None:
    run = open_run(record)
    assert run.num_rows >= num_rows
    if not run.num_rows:
        return
    expected = endless_block(0, run.num_rows)
    norms, losses = run.series("grad_norm"), run.steps["loss"]
    whole = ~np.isnan(norms)
    assert np.array_equal(norms[whole], expected.values["grad_norm"][whole])
    assert np.array_equal(losses[:num_rows], expected.steps["loss"][:num_rows])
    assert whole[:num_rows].all()


@settings(max_examples=NUM_EXAMPLES, deadline=None)
@example(  # the second of four rows of a batch is all zeros, and the file ends there
    cuts={"segments/0000/grad_norm.f64": (1, 5 * 8, 5 * 8)}, of_others=(1, -1, 0)
)
@example(cuts={"steps.bin": (1, STEP_DTYPE.itemsize, STEP_DTYPE.itemsize)}, of_others=(1, -1, 0))
@given(cuts=st.dictionaries(st.sampled_from(FILES), CUT, max_size=20), of_others=CUT)
def test_whatever_the_disk_had_not_written_the_rest_reads_back(
    disk: Disk, cuts: dict[str, Cut], of_others: Cut
) -> None:
    """Any suffix of each file since the last wait is gone, or there and all zeros."""
    with TemporaryDirectory() as folder:
        record = Path(folder) / "run"
        shutil.copytree(disk.record, record)
        for path in sorted(path for path in record.rglob("*") if path.is_file()):
            name = str(path.relative_to(record))
            content = path.read_bytes()
            held = disk.synced.get(name)
            came, more, zeros = cuts.get(name, of_others)
            if held is None and not came:
                path.unlink()
                continue
            kept = (held or 0) + more % (len(content) - (held or 0) + 1)
            num_zeros = zeros % (len(content) - kept + 1)
            path.write_bytes(content[:kept] + bytes(num_zeros))
        assert_is_true(record, disk.num_rows)


def test_every_file_may_end_at_every_byte(disk: Disk, tmp_path: Path) -> None:
    """Near its end: the other files are whole, or cut as far as the row of that byte."""
    record = tmp_path / "run"
    shutil.copytree(disk.record, record)
    num_opened = 0
    for path in sorted(path for path in record.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for length in range(len(content) - 1, max(-1, len(content) - 12), -1):
            path.write_bytes(content[:length])
            try:
                assert_is_true(record, 0)
                num_opened += 1
            except SeismogradError:
                assert path.name in ("meta.json", "parameters.json")
        path.write_bytes(content)
    assert num_opened > 100
