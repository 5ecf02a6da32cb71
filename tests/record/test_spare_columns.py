"""Parameters that are added again and again take spare columns, not a segment each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seismograd import open_run
from seismograd.record import layout
from seismograd.record.inspection import DamageKind, inspect
from seismograd.record.mending import mend
from seismograd.record.writer import Writer
from seismograd.schema import RowBatch
from tests import synthetic
from tests.record.recordings import assert_reads_back

ALL = synthetic.make_parameters(60)


def growing(num_added: list[int], num_rows: int = 1) -> list[RowBatch]:
    """Batches of a training that adds so many parameters before each; the depth of the last one is
    not known until the next batch, as the graph shows it.
    """
    batches: list[RowBatch] = []
    for index, num in enumerate(np.cumsum(num_added).tolist()):
        first = index * num_rows
        norms = first + np.arange(num_rows)[:, None] + np.arange(1, num + 1) / 64
        parameters = (*ALL[: num - 1], replace(ALL[num - 1], depth=None))
        sampled = [0] if index % 3 == 0 else []
        batches.append(
            synthetic.block(
                norms, first_iteration=first, parameters=parameters, sample_rows=sampled
            )
        )
    return batches


def write(path: Path, batches: list[RowBatch]) -> None:
    writer = Writer(path, synthetic.info())
    for batch in batches:
        writer.observe(batch)
    writer.close()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 4), st.integers(1, 9))
def test_what_was_added_reads_back_as_it_was(
    num_added: list[int], num_first: int, num_rows: int
) -> None:
    batches = growing([num_first, *num_added], num_rows)
    with TemporaryDirectory() as folder:
        write(Path(folder) / "run", batches)
        run = open_run(Path(folder) / "run")
        assert_reads_back(run, batches, 0)
        blocks = list(run.blocks(5))
        told = [(step, block.parameters) for block in blocks for step in block.steps["iteration"]]
        assert told == [
            (step, batch.parameters) for batch in batches for step in batch.steps["iteration"]
        ]
        view = run.levels.parameters("grad_norm", 0, run.num_rows, 3)
        norms = run.series("grad_norm")
        for start, stop, high in zip(view.starts, view.stops, view.high, strict=True):
            expected = np.fmax.reduce(norms[start:stop], axis=0)
            np.testing.assert_array_equal(high, expected)


def test_sixty_additions_make_a_few_segments(tmp_path: Path) -> None:
    write(tmp_path / "run", growing([1] * 60))
    assert len(list((tmp_path / "run" / layout.SEGMENTS).iterdir())) <= 8


def test_one_addition_takes_next_to_no_room(tmp_path: Path) -> None:
    write(tmp_path / "run", growing([20, 20], num_rows=10))
    held = (tmp_path / "run" / layout.SEGMENTS / "0001" / "state.u8").stat().st_size
    assert held == 10 * 41


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    write(tmp_path / "run", growing([4, 1, 1, 1, 1, 1, 1]))
    return tmp_path / "run"


def test_a_line_that_is_damaged_costs_its_parameters_and_no_number(grown: Path) -> None:
    path = sorted(grown.rglob(layout.CHANGES))[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:-9] + b"\n" + b"".join(lines[1:]))
    run = open_run(grown)
    norms = run.series("grad_norm")
    assert run.num_rows == 7
    assert len(run.parameters) < 10
    for row in range(7):
        known = norms[row][~np.isnan(norms[row])]
        np.testing.assert_array_equal(known, row + np.arange(1, len(known) + 1) / 64)


def test_fsck_names_the_damaged_line_and_mends_it(grown: Path) -> None:
    path = sorted(grown.rglob(layout.CHANGES))[-1]
    path.write_bytes(path.read_bytes()[:-2])
    inspection = inspect(grown)
    assert [each.kind for each in inspection.damage] == [DamageKind.LINE]
    mend(inspection)
    assert not inspect(grown).damage
