"""In every loop that people write the numbers are those of the ready gradient, and watching
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from seismograd.schema import State, StepFlag
from tests.capture.loops import LOOPS, Loop, told_nothing
from tests.capture.watched import watched
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


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_the_recorded_norms_are_those_of_the_ready_gradients(loop: Loop) -> None:
    told = Told()
    with watched() as kept:
        loop.run(told)
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


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_watching_changes_nothing(loop: Loop) -> None:
    bare = loop.run(Told())
    after_bare = torch.get_rng_state()
    with watched():
        seen = loop.run(Told())
    assert torch.equal(after_bare, torch.get_rng_state())
    assert len(bare) == len(seen)
    for one, other in zip(bare, seen, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(
            torch.view_as_real(one) if one.is_complex() else one,
            torch.view_as_real(other) if other.is_complex() else other,
        )


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_no_loop_that_clears_its_gradients_seems_to_carry_them_over(loop: Loop) -> None:
    with watched() as kept:
        loop.run(Told())
    assert not any(row.values["carried"].any() for row in kept.rows)
    assert not any(int(row.step["flags"]) & StepFlag.NO_BACKWARD for row in kept.rows)


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
