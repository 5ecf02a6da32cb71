from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg310_gradient_rescaled import GradientRescaled
from seismograd.schema import EventFlag, Finding, RowBatch
from tests.rules.cutting import codes, cut, result, row_by_row
from tests.rules.stream import at, stream

factors = st.sampled_from([1 / 8, 1 / 4, 0.1, 2.0, 1 / 65536, 64.0])


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made])
    return finding


@given(factors, st.integers(1, 5), st.integers(3, 8))
def test_dividing_the_gradient_of_a_mean_is_found_in_the_third_step(
    factor: float, num: int, windows: int
) -> None:
    made = stream(("b " * num + "s z ") * windows, total=1 / num, changed=factor)
    finding = only(made)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG310",
        "warning",
        0,
        windows - 1,
    )
    assert finding.evidence[0].value == pytest.approx(factor * finding.evidence[0].limit, rel=1e-6)
    assert finding.where == at("s")
    assert codes(cut(made, [3])[0]) == ["SG310"]
    assert result(row_by_row([made]), rules=(GradientRescaled,)) == result(
        [made], rules=(GradientRescaled,)
    )


@given(st.integers(2, 8))
def test_what_makes_one_mean_of_a_sum_is_healthy(num: int) -> None:
    assert codes(stream(("b " * num + "s z ") * 8, total=1.0, changed=1 / num)) == []
    assert (
        codes(
            stream(
                ("b " * num + "s z ") * 8,
                total=32.0,
                changed=1 / 32,
                backward_flags=EventFlag.SUMMED,
            )
        )
        == []
    )


def test_a_sign_that_is_turned_is_healthy() -> None:
    assert codes(stream("b s z " * 12, changed=1.0)) == []


def scaled_by(made: RowBatch, factors: np.ndarray) -> RowBatch:
    """The same with other applied norms  # (T,) or (T, P)."""
    applied = made.values["grad_norm"] * np.reshape(factors, (len(made), -1))
    return replace(made, values={**made.values, "applied_norm": applied.astype(np.float32)})


def test_clipping_by_hand_is_healthy() -> None:
    made = stream("b s z " * 30, changed=1.0)
    assert codes(scaled_by(made, np.random.default_rng(0).uniform(0.1, 1.0, 30))) == []


def test_a_factor_for_some_parameters_is_healthy() -> None:
    made = stream("b s z " * 30, changed=1.0)
    assert codes(scaled_by(made, np.tile([0.1, 1.0, 1.0, 1.0], (30, 1)))) == []


@given(st.integers(2, 9))
def test_a_loss_that_is_divided_twice_is_found(num: int) -> None:
    finding = only(stream(("b " * num + "s z ") * 5, total=1 / num**2))
    assert (finding.code, finding.excerpt) == ("SG310", f"(loss / {num}).backward()")


def test_a_mean_that_is_divided_by_the_batch_size_is_found() -> None:
    assert (
        "is divided by 64 again"
        in only(stream("b s z " * 5, count=64, total=1 / 64)).cause.render()
    )


@pytest.mark.parametrize("total", [0.5, 0.1, 3.0])
def test_a_weight_of_the_loss_is_healthy(total: float) -> None:
    assert codes(stream("b s z " * 12, count=64, total=total)) == []
