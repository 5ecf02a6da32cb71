from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg402.sg402_no_gradient import NoGradient
from seismograd.schema import Finding, Parameter, RowBatch, State, StepFlag
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.synthetic import block, make_parameters

NAMES = [
    "encoder.0.weight",
    "encoder.0.bias",
    "encoder.2.weight",
    "encoder.2.bias",
    "head.weight",
    "head.bias",
]


def made(
    absent: Sequence[int], num_steps: int = 40, names: Sequence[str] = NAMES, **options: object
) -> RowBatch:
    """A run in which these parameters never get a gradient and no graph shows them."""
    parameters: tuple[Parameter, ...] = tuple(
        replace(each, depth=None) if column in absent else each
        for column, each in enumerate(make_parameters(names=names))
    )
    state = np.full((num_steps, len(names)), State.FINITE)
    state[:, list(absent)] = State.ABSENT
    return block(np.ones(state.shape), **{"parameters": parameters, "state": state, **options})  # type: ignore[arg-type]


def only(given_: RowBatch) -> Finding:
    (finding,), _ = result([given_])
    return finding


@given(st.integers(1, 5), st.integers(30, 70))
def test_a_cut_is_found_and_named(num_absent: int, num_steps: int) -> None:
    given_ = made(range(num_absent), num_steps)
    finding = only(given_)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG402",
        "error",
        0,
        num_steps - 1,
    )
    assert finding.parameters == tuple(NAMES[:num_absent])
    assert (
        f"the graph is cut between {NAMES[num_absent - 1]} and {NAMES[num_absent]}"
        in finding.cause.render()
    )
    assert codes(cut(given_, [30])[0]) == ["SG402"]
    assert result(row_by_row([given_]), rules=(NoGradient,)) == result(
        [given_], rules=(NoGradient,)
    )


def test_an_optimizer_none_of_whose_parameters_gets_one_is_found() -> None:
    assert (
        "none of the parameters that the optimizer holds (6)" in only(made(range(6))).cause.render()
    )


def test_a_layer_that_is_not_used_is_a_warning_at_the_end() -> None:
    finding = only(made([2, 3]))
    assert (finding.code, finding.severity, finding.parameters) == (
        "SG402",
        "warning",
        ("encoder.2.weight", "encoder.2.bias"),
    )


def test_a_short_run_is_judged_at_its_end() -> None:
    assert codes(made([0, 1], 5)) == ["SG402"]
    assert codes(made([0, 1], 4)) == []


@given(st.integers(1, 60))
def test_parameters_with_gradients_are_healthy(num_steps: int) -> None:
    assert codes(made([], num_steps)) == []


@given(st.integers(1, 40), st.integers(0, 5))
def test_a_gradient_now_and_then_is_one(num_steps: int, column: int) -> None:
    given_ = made([column], num_steps)
    given_.state[num_steps // 2 if num_steps < 30 else 20, column] = State.FINITE
    assert codes(given_) == []


def test_zeros_are_a_gradient() -> None:
    state = np.full((40, 6), State.FINITE)
    state[:, :4] = State.ZERO
    assert "SG402" not in codes(made([], state=state))


def test_what_is_frozen_is_healthy() -> None:
    given_ = made([0, 1])
    frozen = tuple(replace(each, trainable=each.depth is not None) for each in given_.parameters)
    assert codes(replace(given_, parameters=frozen)) == []


@pytest.mark.parametrize("expert", [0, 1, 3])
def test_idle_experts_are_healthy(expert: int) -> None:
    names = [f"experts.{number}.weight" for number in range(4)] + ["gate.weight"]
    assert codes(made([expert], names=names)) == []
    given_ = made([expert], names=[name.replace("experts", "branches") for name in names])
    given_.state[::3, (expert + 1) % 4] = State.ABSENT
    assert codes(given_) == []


def test_what_the_graph_has_shown_was_cleared_by_hand_and_is_healthy() -> None:
    given_ = made([4, 5])
    assert codes(replace(given_, parameters=make_parameters(names=NAMES))) == []


def test_skipped_steps_do_not_count() -> None:
    assert codes(made([0, 1], flags=StepFlag.SKIPPED)) == []


def test_four_steps_are_not_evaluated() -> None:
    assert (
        status(made([0, 1], 4), "SG402").reason.render() == "needs 5 steps with a backward(), has 4"
    )
