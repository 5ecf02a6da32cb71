"""In every loop that people write the numbers are those of the ready gradient, and watching
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from seismograd.schema import State, StepFlag
from tests.capture.loops import LOOPS, Loop, told_nothing
from tests.capture.watched import Watched, watched
from tests.single_rows import SingleRow

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Told:
    """What a loop says of its own gradients: the float64 norm of each, per step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.consumed: dict[int, dict[str, float]] = {}

    def applied(self, gradients: Mapping[str, torch.Tensor]) -> None:
        self.consumed[len(self.steps) - 1] = {name: norm(p.grad) for name, p in gradients.items()}

    def __call__(self, gradients: Mapping[str, torch.Tensor], scale: float = 1.0) -> None:
        self.steps.append({name: norm(p.grad) / scale for name, p in gradients.items()})


def norm(grad: torch.Tensor | None) -> float:
    assert grad is not None
    dense = grad.detach().to_dense()
    real = torch.view_as_real(dense) if dense.is_complex() else dense
    return math.sqrt(float(real.to(torch.float64).square().sum()))


def by_name(row: SingleRow, statistic: str = "grad_norm") -> dict[str, float]:
    there = row.state >= State.ZERO
    return {p.name: row.values[statistic][i] for i, p in enumerate(row.parameters) if there[i]}


@dataclass
class Trained:
    """A loop that was run without us, and then watched."""

    bare: Sequence[torch.Tensor]
    bare_random: torch.Tensor
    seen: Sequence[torch.Tensor]
    seen_random: torch.Tensor
    told: Told
    kept: Watched


@pytest.fixture(scope="module", params=LOOPS, ids=lambda loop: loop.name)
def trained(request: pytest.FixtureRequest) -> Trained:
    loop: Loop = request.param
    bare, bare_random = loop.run(Told()), torch.get_rng_state()
    told = Told()
    with watched() as kept:
        seen = loop.run(told)
    return Trained(bare, bare_random, seen, torch.get_rng_state(), told, kept)


def test_the_recorded_norms_are_those_of_the_ready_gradients(trained: Trained) -> None:
    told, kept = trained.told, trained.kept
    assert kept.session.guard.failures == {}, kept.notes
    assert [int(row.step["iteration"]) for row in kept.rows] == list(range(len(told.steps)))
    for row, expected in zip(kept.rows, told.steps, strict=True):
        recorded = by_name(row)
        assert set(recorded) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(
                recorded[name], value, rtol=1e-6, err_msg=f"{name} at {row.step['iteration']}"
            )
    for number, row in enumerate(kept.rows):
        applied = by_name(row, "applied_norm")
        skipped = int(row.step["flags"]) & StepFlag.SKIPPED
        for name, value in (told.consumed.get(number) or told.steps[number]).items():
            if number in told.consumed or (np.isnan(row.step["clip_limit"]) and not skipped):
                np.testing.assert_allclose(
                    applied[name], value, rtol=1e-5, err_msg=f"{name} as applied at {number}"
                )


def test_watching_changes_nothing(trained: Trained) -> None:
    assert torch.equal(trained.bare_random, trained.seen_random)
    assert len(trained.bare) == len(trained.seen) > 0
    for one, other in zip(trained.bare, trained.seen, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(
            torch.view_as_real(one) if one.is_complex() else one,
            torch.view_as_real(other) if other.is_complex() else other,
        )


def test_no_loop_that_clears_its_gradients_seems_to_carry_them_over(trained: Trained) -> None:
    rows = trained.kept.rows
    assert not any(row.values["carried"].any() for row in rows)
    assert not any(int(row.step["flags"]) & StepFlag.NO_BACKWARD for row in rows)


def test_a_step_the_scaler_leaves_out_is_recorded_with_its_gradients() -> None:
    loop = next(one for one in LOOPS if "leaves out" in one.name)
    with watched() as kept:
        loop.run(Told())
    assert [bool(int(row.step["flags"]) & StepFlag.SKIPPED) for row in kept.rows] == [
        False,
        True,
        False,
        False,
    ]
    assert (kept.rows[1].state == State.NONFINITE).all()
    assert [int(row.step["step"]) for row in kept.rows] == [0, 1, 1, 2]


def test_a_layer_that_was_frozen_before_takes_its_place_in_the_order_of_execution() -> None:
    loop = next(one for one in LOOPS if "unfrozen" in one.name)
    with watched() as kept:
        loop.run(told_nothing)
    ordered = [
        p.name
        for p in sorted(
            (p for p in kept.rows[-1].parameters if p.depth is not None), key=lambda p: p.depth or 0
        )
    ]
    assert [name for name in ordered if name.endswith("weight")] == [
        "0.weight",
        "2.weight",
        "4.weight",
    ]
