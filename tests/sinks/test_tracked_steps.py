"""What is sent of a step: the numbers of the record, NaN only where that was measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from seismograd.schema import State
from seismograd.sinks.module_groups import MOST_GROUPS, OTHERS, module_groups
from seismograd.sinks.tracked_steps import TrackedSteps
from tests.synthetic import block, make_parameters

NAMES = ("fc1.weight", "fc1.bias", "fc2.weight")


def parameters():
    return make_parameters(names=NAMES, shapes=((2, 2), (2,), (2, 2)))


def test_the_norm_of_a_module_is_that_of_its_parameters_as_one() -> None:
    (sent,) = TrackedSteps().read(block(np.array([[3.0, 4.0, 2.0]]), parameters=parameters()))
    assert sent.scalars["module/fc1"] == pytest.approx(5.0)
    assert sent.scalars["module/fc2"] == pytest.approx(2.0)
    assert sent.scalars["state"] == State.FINITE
    huge = block(np.array([[3.0, 4.0, 2.0]]), parameters=parameters())
    huge = replace(huge, values={**huge.values, "grad_norm": np.array([[3e200, 4e200, 2.0]])})
    (sent,) = TrackedSteps().read(huge)
    assert sent.scalars["module/fc1"] == pytest.approx(5e200)


def test_what_is_not_finite_is_sent_and_said_and_what_was_not_measured_is_left_out() -> None:
    states = np.array([[State.NONFINITE, State.FINITE, State.ABSENT]], np.uint8)
    norms = np.array([[np.nan, 1.0, np.nan]])
    (sent,) = TrackedSteps().read(block(norms, parameters=parameters(), state=states))
    assert math.isnan(sent.scalars["module/fc1"])
    assert math.isnan(sent.scalars["grad_norm"])
    assert "module/fc2" not in sent.scalars
    assert sent.scalars["state"] == State.NONFINITE
    assert sent.scalars["nonfinite_parameters"] == 1
    assert sent.worst_layer == "fc1.weight"
    nothing = np.full((1, 3), State.NOT_MEASURED, np.uint8)
    blank = block(np.full((1, 3), np.nan), parameters=parameters(), state=nothing)
    blank.steps["grad_norm"] = np.nan
    (sent,) = TrackedSteps().read(blank)
    assert "grad_norm" not in sent.scalars
    assert sent.scalars["state"] == State.NOT_MEASURED


def test_the_worst_layer_is_the_one_most_unlike_the_others() -> None:
    (sent,) = TrackedSteps().read(block(np.array([[2.0, 1e-6, 2.0]]), parameters=parameters()))
    assert sent.worst_layer == "fc1.bias"
    assert sent.scalars["worst_layer_ratio"] == pytest.approx(1e-6 / math.sqrt(2))


def test_the_share_of_clipped_steps_is_that_of_the_steps_with_a_clip() -> None:
    coefficients = np.array([1.0, 0.5, np.nan, 0.25])
    sent = list(TrackedSteps().read(block(np.ones((4, 2)), clip_coefficient=coefficients)))
    shares = [each.scalars.get("clip_share") for each in sent]
    assert shares == [0.0, 0.5, None, pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["weight", "bias"], ["weight", "bias"]),
        (["a.b.weight", "a.b.bias", "a.c.weight"], ["a.b", "a.c"]),
        ([f"blocks.{n}.{k}.weight" for n in range(8) for k in "qkvof"], None),
        ([f"m{n}.weight" for n in range(100)], None),
    ],
)
def test_modules_are_as_deep_as_a_dashboard_can_hold(
    names: list[str], expected: list[str] | None
) -> None:
    made = make_parameters(names=tuple(names), shapes=((1,),) * len(names))
    groups = module_groups(made)
    if expected is not None:
        assert list(groups) == expected
    assert len(groups) <= MOST_GROUPS
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(len(names)))
    if len(names) == 100:
        assert len(groups[OTHERS]) == 100 - (MOST_GROUPS - 1)
    if len(names) == 40:
        assert list(groups) == [f"blocks.{n}" for n in range(8)]
