"""Replicas are told from experts and shards by evidence: each different tensor counts once, and
only replicas can drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.schema import State
from tests.distributed.processes import HERE, start

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

TOLERANCE = 1e-5  # of float32
HEALTHY = (
    "experts",
    "zero_bias",
    "one_seed",
    "warmup",
    "no_tokens",
    "tensor_parallel",
    "unmarked_tensor_parallel",
)


def train(names: Sequence[str], num_ranks: int, out: Path) -> None:
    ended = start([str(HERE / "owners.py"), str(out), *names], num_ranks, out)
    assert [each.code for each in ended] == [0] * num_ranks, ended[0].err[-3000:]


def assert_norms(name: str, out: Path) -> seismograd.Run:
    run = seismograd.open_run(out / name)
    with np.load(out / f"{name}.npz") as expected:
        columns = dict(
            zip([p.name for p in run.parameters], run.series("grad_norm").T, strict=True)
        )
        assert columns.keys() == set(expected.files)
        whole = np.zeros(len(run.steps))
        for parameter, norms in columns.items():
            np.testing.assert_allclose(
                norms, expected[parameter], TOLERANCE, err_msg=f"{name} {parameter}"
            )
            whole += expected[parameter] ** 2
        np.testing.assert_allclose(run.steps["grad_norm"], whole**0.5, TOLERANCE, err_msg=name)
    assert (run.states == State.FINITE).all()
    return run


def findings(run: seismograd.Run) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in run.findings]


def test_each_expert_and_each_shard_counts_once(tmp_path: Path) -> None:
    train(HEALTHY, 2, tmp_path)
    for name in HEALTHY:
        run = assert_norms(name, tmp_path)
        assert findings(run) == [], name
        shapes = {p.name: p.shape for p in run.parameters}
        if "tensor_parallel" not in name:
            assert shapes["expert.weight"] == (2, 8, 8)
            assert shapes["dense.weight"] == (8, 8)
        assert len(run.notes) == 1


@pytest.mark.extended  # four processes; two hold the kind
def test_experts_with_replicas_count_once(tmp_path: Path) -> None:
    train(("pairs",), 4, tmp_path)
    run = assert_norms("pairs", tmp_path)
    assert findings(run) == []
    assert {p.name: p.numel for p in run.parameters}["expert.weight"] == 2 * 64


def test_replicas_that_nobody_keeps_together_are_found(tmp_path: Path) -> None:
    names = ("never_reduced", "other_seeds", "other_seeds_reduced", "forgotten", "nothing_shared")
    train(names, 2, tmp_path)
    found = {name: findings(seismograd.open_run(tmp_path / name)) for name in names}
    for name in names[:3]:
        assert ("SG701", "error") in found[name], name
    assert found["forgotten"] == [("SG701", "warning")]
    assert found["nothing_shared"] == [("SG701", "info")]
    run = assert_norms("forgotten", tmp_path)
    (finding,) = run.findings
    assert finding.parameters == ("middle.bias", "middle.weight")
    text = finding.cause.render()
    assert "left out of the reduction" in text
    assert "experts or shards" in text
    assert_norms("nothing_shared", tmp_path)


def test_gradients_that_are_never_reduced_are_not_measured(tmp_path: Path) -> None:
    train(("averaged_weights",), 2, tmp_path)
    run = seismograd.open_run(tmp_path / "averaged_weights")
    assert (run.states == State.NOT_MEASURED).all()
    assert np.isnan(run.steps["grad_norm"]).all()
    (note,) = run.notes
    assert "not measured" in note.message.render()
