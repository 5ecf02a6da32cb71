"""What several processes train is recorded as one process would have measured it, and they train
as if nobody had.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seismograd
from seismograd.schema import FloatArray, RankFlag, State
from tests.distributed.loops import CASES
from tests.distributed.processes import HERE, start

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

NAMES = ["norm.weight", "norm.bias", "first.weight", "first.bias", "second.weight", "second.bias"]
BY_HAND = (
    "by_hand",
    "by_hand_clip",
    "by_hand_bucket",
    "by_hand_gathered",
    "by_hand_hooks",
    "by_hand_norm",
)
REPLICATED = {"ddp", "ddp_no_sync", "ddp_clip", "ddp_nan", *BY_HAND}
TWO_RANKS = (
    ("ddp", "ddp_no_sync", "ddp_clip", "ddp_nan"),
    BY_HAND,
    ("fsdp", "fsdp_clip", "tensor_parallel", "sequence_parallel"),
)
FOUR_RANKS = ("hsdp", "fsdp_and_tensor_parallel")


@pytest.mark.parametrize(
    ("names", "num_ranks"),
    [
        *((names, 2) for names in TWO_RANKS),
        pytest.param(FOUR_RANKS, 4, marks=pytest.mark.extended),
    ],
    ids=str,
)
def test_ranks_are_recorded_as_one_process_would_measure(
    names: tuple[str, ...], num_ranks: int, tmp_path: Path
) -> None:
    ended = start([str(HERE / "loops.py"), str(tmp_path), *names], num_ranks, tmp_path)
    assert [each.code for each in ended] == [0] * num_ranks, ended[0].err[-3000:]
    for told in (told for each in ended for told in each.json()):
        assert told["alone"] == told["watched"], told
    for name in names:
        run = seismograd.open_run(tmp_path / name)
        with np.load(tmp_path / f"{name}.npz") as expected:
            assert_recorded(name, run, dict(expected))
        assert_ranks(name, run, num_ranks)


def assert_recorded(name: str, run: seismograd.Run, expected: dict[str, Any]) -> None:
    case = CASES[name]
    assert run.ended
    assert run.notes == ()
    assert [p.name for p in run.parameters] == NAMES
    assert run.steps["iteration"].tolist() == list(range(case.steps))
    shapes = [(6,), (6,), (case.hidden, 6), (case.hidden,), (6, case.hidden), (6,)]
    assert [p.shape for p in run.parameters] == shapes
    for statistic, tolerance in {
        "grad_norm": 1e-9,
        "grad_max": 1e-6,
        "grad_sum": 1e-6,
        "applied_norm": 1e-6,
    }.items():
        for series, parameter in zip(run.series(statistic).T, NAMES, strict=True):
            if f"{statistic} {parameter}" in expected:
                finite = np.abs(series[np.isfinite(series)])
                np.testing.assert_allclose(
                    series,
                    expected[f"{statistic} {parameter}"],
                    tolerance,
                    1e-8 * finite.max(),
                    err_msg=f"{name} {statistic} {parameter}",
                )
    for parameter, zeros, states in zip(NAMES, run.series("zeros").T, run.states.T, strict=True):
        assert zeros.tolist() == expected[f"zeros {parameter}"].tolist()
        finite = np.isfinite(expected[f"grad_norm {parameter}"])
        assert states.tolist() == np.where(finite, State.FINITE, State.NONFINITE).tolist()
    rows, weight_norms = run.samples("weight_norm")
    assert rows.tolist() == [0, 10]
    for parameter, norms in zip(NAMES, weight_norms.T, strict=True):
        np.testing.assert_allclose(norms, expected[f"weight_norm {parameter}"][rows], 1e-9, 1e-12)
    counted = (
        run.samples("exponents")[1].sum(2)
        + run.series("zeros")[rows]
        + run.series("nonfinite")[rows]
    )
    assert counted.tolist() == [[p.numel for p in run.parameters]] * len(rows)
    sketches = run.sampled("gradient_sketch")
    assert sketches.steps.tolist() == [0]
    assert [subject.name for subject in sketches[0].subjects] == NAMES
    for parameter, sketch in zip(NAMES, sketches[0].values, strict=True):
        assert_close(sketch, expected[f"sketch {parameter}"][0], 1e-9)
    if "clip_norm" in expected:
        np.testing.assert_allclose(run.steps["clip_norm"], expected["clip_norm"], 1e-9)
    for element, series in zip(case.elements, run.elements[1].T, strict=True):
        parameter, index = element.removesuffix("]").split("[")
        position = (slice(None), *map(int, index.split(",")))
        np.testing.assert_allclose(series, expected[f"gradient {parameter}"][position], 1e-9, 1e-15)


def assert_close(found: FloatArray, expected: FloatArray, tolerance: float) -> None:
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def assert_ranks(name: str, run: seismograd.Run, num_ranks: int) -> None:
    ranks = run.ranks.reshape(len(run.steps), num_ranks)
    assert (ranks["flags"] & RankFlag.REPORTED).all()
    assert ranks["rank"].tolist() == [list(range(num_ranks))] * len(run.steps)
    assert (ranks["iteration"] == run.steps["iteration"][:, None]).all()
    summed = (ranks["flags"] & RankFlag.CHECKSUM).astype(bool)
    assert np.flatnonzero(summed.all(1)).tolist() == [
        step for step in (0, 2, 5, 10) if step < len(run.steps)
    ]
    for rank, replica in enumerate(ranks["replica_of"][0]):
        assert ranks["weight_checksum"][0, rank] == ranks["weight_checksum"][0, replica]
    expected = {"hsdp": [0, 1, 0, 1]}.get(
        name, [0] * num_ranks if name in REPLICATED else list(range(num_ranks))
    )
    assert ranks["replica_of"][0].tolist() == expected
    looked_at = (ranks["flags"] & RankFlag.LOCAL).astype(bool)
    if name in REPLICATED:
        assert looked_at[1:].all()
    # the reduced gradients of both are NaN; what each had before tells who it was
    if name == "ddp_nan":
        assert ranks["local_nonfinite"][5, 0] == 0 < ranks["local_nonfinite"][5, 1]
        np.testing.assert_allclose(run.steps["loss"][:5], ranks["loss"][:5].mean(1))
        assert np.isnan(ranks["loss"][5]).tolist() == [False, True]
