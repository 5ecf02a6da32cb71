"""What SG108 says of updates that are exactly zero, or that were not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from seismograd.rules import UpdateTooSmall
from seismograd.schema import Finding, Optimizer
from tests.rules.cutting import result
from tests.synthetic import block, make_parameters

STEPS = 60


def only(
    lr: Sequence[float] | float, ratio: np.ndarray, groups: Sequence[int] = (0, 0, 0, 0)
) -> Finding:
    parameters = [
        replace(each, group=group) for each, group in zip(make_parameters(4), groups, strict=True)
    ]
    made = block(
        np.ones((STEPS, 4)),
        parameters=parameters,
        lr=lr,
        values={"update_ratio": ratio},
        optimizers=(Optimizer(0, "Adam", "optimizer"),),
    )
    (finding,), _ = result([made], rules=(UpdateTooSmall,))
    return finding


def falls_to(lr: float) -> list[float]:
    return [1e-3] * 20 + [lr] * 40


def moves_and_stops(ratio: float) -> np.ndarray:
    made = np.full((STEPS, 4), 1e-3)
    made[20:] = ratio
    return made


@pytest.mark.parametrize("ratio", [0.0, 1e-9])
def test_a_learning_rate_of_zero_is_said_as_it_is(ratio: float) -> None:
    finding = only(0.0, np.full((STEPS, 4), ratio))
    assert "the learning rate is 0, so no update changes a weight" in finding.cause.render()


@pytest.mark.parametrize("lr", [0.0, 1e-8])
def test_an_update_of_nothing_is_no_share_of_a_weight(lr: float) -> None:
    cause = only(falls_to(lr), moves_and_stops(0.0)).cause.render()
    assert "since step 20 the weights have not changed" in cause
    assert "at most" not in cause


def test_where_the_last_steps_were_not_measured_it_shows_the_last_that_were() -> None:
    ratio = moves_and_stops(1e-8)
    ratio[45:] = np.nan
    finding = only(falls_to(1e-8), ratio)
    assert "at most 1e-08 of a weight" in finding.cause.render()
    assert finding.evidence[0].step in range(40, 45)
    assert not any(each.value < 0 or math.isnan(each.value) for each in finding.evidence)


def test_a_small_update_is_a_share_of_a_weight() -> None:
    assert "at most 1e-08 of a weight" in only(falls_to(1e-8), moves_and_stops(1e-8)).cause.render()


def test_a_group_that_does_not_move_at_all() -> None:
    ratio = np.full((STEPS, 4), 1e-3)
    ratio[:, 2:] = 0.0
    finding = only(1e-3, ratio, groups=(0, 0, 1, 1))
    assert "parameter group 1 does not change at all" in finding.cause.render()
    assert finding.parameters == ("net.1.weight",)
