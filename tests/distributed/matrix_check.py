"""Runs trainings of the matrix, and tells how far what is recorded is from what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import seismograd
from seismograd.schema import FloatArray, State
from tests.distributed.matrix_alone import LIMIT
from tests.distributed.matrix_cells import CELLS
from tests.distributed.processes import HERE, start

TOLERANCE = 1e-5
# bfloat16 has eight binary digits: each rounding of a sum moves it by up to 2 ** -9 = 0.2 %, and a
# gradient of three scalars by as much. What several processes add up one after the other is rounded
# up to three times, and so are activations that tensor parallelism adds up.
ROUNDED, ROUNDED_WHOLE = 2e-2, 5e-3
LIMIT_S = 900


@dataclass(frozen=True)
class Distance:
    """The largest relative differences of the norm of any parameter in any step, and of the whole:
    from the gradients that the processes have, gathered from them (`held`), and from those of one
    process with all the data (`alone`).
    """

    held: float
    held_whole: float
    alone: float
    alone_whole: float


def measure(names: Sequence[str], num_ranks: int, folder: Path) -> dict[str, Distance]:
    """Run these trainings, and check what holds for all of them."""
    ended = start([str(HERE / "matrix.py"), str(folder), *names], num_ranks, folder, LIMIT_S)
    assert [each.code for each in ended] == [0] * num_ranks, ended[0].err[-3000:]
    for each in ended:
        told = {line["cell"]: line for line in each.json()}
        assert [n for n in names if told[n]["plain"] != told[n]["watched"]] == []
    return {name: _distance(name, folder) for name in names}


def _distance(name: str, folder: Path) -> Distance:
    cell, run = CELLS[name], seismograd.open_run(folder / name)
    assert run.ended, name
    # that experts, or the parts of what FSDP1 has flattened, are told apart is one of this kind
    said = {"ranks"} if cell.num_experts or cell.kind == "fsdp1" else set()
    assert {n.kind for n in run.notes} == said, name
    assert [f.code for f in run.findings if f.severity != "info"] == [], name
    assert (run.states == State.FINITE).all(), name
    parameters = [p.name for p in run.parameters]
    with np.load(folder / f"{name}.npz") as found:
        assert sorted(found.files) == sorted(
            f"{whose} {each}" for whose in ("held", "alone") for each in parameters
        ), name
        held, alone = (
            np.stack([found[f"{whose} {each}"] for each in parameters], 1)
            for whose in ("held", "alone")
        )
    if cell.clip:
        whole = np.linalg.norm(held, axis=1)
        assert (whole > LIMIT).all(), name
        np.testing.assert_allclose(run.steps["clip_norm"], whole, _of_clip(name), err_msg=name)
    recorded = run.series("grad_norm")
    return Distance(
        _apart(recorded, held),
        _apart(run.steps["grad_norm"], np.linalg.norm(held, axis=1)),
        _apart(recorded, alone),
        _apart(run.steps["grad_norm"], np.linalg.norm(alone, axis=1)),
    )


def _of_clip(name: str) -> float:
    """How exactly the clip has computed its norm."""
    return 1e-2 if "bfloat16" in name else 1e-4


def _apart(found: FloatArray, expected: FloatArray) -> float:
    return float(np.abs(found / expected - 1).max())


def assert_near(name: str, distance: Distance) -> None:
    """Check that what is recorded is what the processes have, and what one process would have."""
    assert max(distance.held, distance.held_whole) < TOLERANCE, (name, distance)
    alike = CELLS[name].rounds_alike
    assert distance.alone < (TOLERANCE if alike else ROUNDED), (name, distance)
    assert distance.alone_whole < (TOLERANCE if alike else ROUNDED_WHOLE), (name, distance)
