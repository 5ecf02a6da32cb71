"""What DeepSpeed's ZeRO has partitioned is recorded as one process would measure it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.schema import State
from tests.distributed.processes import HERE, start
from tests.distributed.test_loops import NAMES
from tests.distributed.zero_cases import CASES, LIMIT, TOLERANCE

pytest.importorskip("deepspeed")
pytestmark = [pytest.mark.ranks, pytest.mark.slow]


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_partitions_are_recorded_as_one_process_would_measure(
    tmp_path: Path, num_ranks: int
) -> None:
    names = [name for name, case in CASES.items() if case.num_ranks == num_ranks]
    ended = start([str(HERE / "zero.py"), str(tmp_path), *names], num_ranks, tmp_path, 600)
    assert [each.code for each in ended] == [0] * num_ranks, ended[0].err[-3000:]
    for each in ended:
        told = {line["case"]: (line["alone"], line["watched"]) for line in each.json()}
        assert {name: alone == watched for name, (alone, watched) in told.items()} == dict.fromkeys(
            names, True
        )
    for name in names:
        check(tmp_path, name)


def check(folder: Path, name: str) -> None:
    case, run = CASES[name], seismograd.open_run(folder / name)
    assert [(n.kind, n.message.render()) for n in run.notes] == [], name
    assert [f.code for f in run.findings if f.severity != "info"] == [], name
    assert [p.name for p in run.parameters] == NAMES, name
    assert (run.states == State.FINITE).all(), name
    with np.load(folder / f"{name}.npz") as expected:
        norms = {each: expected[f"grad_norm {each}"] for each in NAMES}
    for each, recorded in zip(NAMES, run.series("grad_norm").T, strict=True):
        np.testing.assert_allclose(recorded, norms[each], TOLERANCE, err_msg=f"{name} {each}")
    whole = np.sqrt(sum(norm**2 for norm in norms.values()))
    np.testing.assert_allclose(run.steps["grad_norm"], whole, TOLERANCE, err_msg=name)
    assert (run.steps["num_backwards"] == case.parts).all(), name
    if case.clip:
        np.testing.assert_allclose(run.steps["clip_norm"], whole, 1e-4, err_msg=name)
        applied = np.minimum(whole, LIMIT)
        np.testing.assert_allclose(run.steps["applied_norm"], applied, 1e-3, err_msg=name)
