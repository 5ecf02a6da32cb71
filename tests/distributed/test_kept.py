"""Snapshots of several processes: replicas are kept once, shards by each, and joined when read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import seismograd
from tests.distributed.kept import STEP
from tests.distributed.processes import start

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

PROGRAM = Path(__file__).parent / "kept.py"


@pytest.mark.parametrize(
    ("how", "num_files"),
    [
        ("replicas", 1),
        ("sharded", 2),
        pytest.param("tensor_parallel", 2, marks=pytest.mark.extended),
    ],
)
def test_a_gradient_is_read_as_a_whole(how: str, num_files: int, tmp_path: Path) -> None:
    ended = start([str(PROGRAM), how, str(tmp_path / "run")], 2, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err + ended[1].err
    run = seismograd.open_run(tmp_path / "run")
    snapshots = run.snapshots()
    assert [(each.step, each.rank) for each in snapshots] == [(STEP, r) for r in range(num_files)]
    assert {each.world_size for each in snapshots} == {2}
    (told,) = ended[0].json()
    assert len(told) == 4
    for name, gradient in told.items():
        np.testing.assert_array_equal(run.kept_gradient(STEP, name), np.array(gradient, np.float32))
    assert not [note for note in run.notes if note.kind == "failure"]
