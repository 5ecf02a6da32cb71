from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg302_zero_grad_before_step import ZeroGradBeforeStep
from seismograd.rules.sg303_step_without_backward import StepWithoutBackward
from seismograd.rules.sg304_clip_without_effect import ClipWithoutEffect
from seismograd.rules.sg308_partial_window import PartialWindow
from seismograd.schema import Finding
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.rules.stream import at, stream

alphabet = st.text("zbBcs", min_size=1, max_size=60).filter(lambda calls: "s" in calls)


def only(calls: str, **options: object) -> Finding:
    (finding,), _ = result([stream(calls, **options)])  # type: ignore[arg-type]
    return finding


@given(st.integers(2, 40))
def test_clearing_between_backward_and_step_is_found_in_the_second_step(num_steps: int) -> None:
    made = stream("b z s " * num_steps)
    (finding,), _ = result([made])
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG302",
        "error",
        0,
        num_steps - 1,
    )
    assert finding.where == at("z")
    assert codes(cut(made, [2])[0]) == ["SG302"]
    assert "zero_grad at train.py:11 clears what backward at train.py:12" in finding.cause.render()


@pytest.mark.parametrize("loop", ["z b s ", "b s z ", "z b c s ", "b s z z ", "z z b s "])
@given(num_steps=st.integers(1, 40))
def test_the_right_order_is_never_found(loop: str, num_steps: int) -> None:
    assert codes(stream(loop * num_steps)) == []


def test_clearing_for_each_micro_batch_is_found() -> None:
    finding = only("z b z b z b z b s " * 6, total=1 / 4)
    assert (finding.code, finding.where) == ("SG302", at("z"))
    assert "3 of the 4 backward passes" in finding.cause.render()


def test_a_whole_window_that_is_cleared_is_found() -> None:
    assert only("b b b b z s " * 6, total=1 / 4).code == "SG302"


@pytest.mark.parametrize("loop", ["b z B s z ", "b z b s z "])
def test_a_backward_for_something_else_is_healthy(loop: str) -> None:
    assert codes(stream(loop * 20)) == []


def test_leaving_out_a_bad_batch_is_healthy() -> None:
    assert codes(stream("b z s " * 10, loss=float("nan"))) == []


def test_now_and_then_is_found_when_it_is_often() -> None:
    assert codes(stream(("z b s " * 2 + "b z s ") * 8)) == ["SG302"]
    assert codes(stream("z b s " * 20 + "b z s " + "z b s " * 20)) == []


@given(alphabet, st.lists(st.integers(1, 30), max_size=6), st.sampled_from([1.0, 0.25]))
def test_any_loop_comes_to_the_same_however_it_is_cut(
    calls: str, positions: list[int], total: float
) -> None:
    made = stream(calls, total=total)
    for rules in ((ZeroGradBeforeStep,), (StepWithoutBackward, ClipWithoutEffect, PartialWindow)):
        whole = result([made], rules=rules)
        assert result(cut(made, positions), rules=rules) == whole
        assert result(row_by_row([made]), rules=rules) == whole


def test_too_few_steps_are_not_evaluated() -> None:
    assert status(stream("z b s"), "SG302").reason.render() == "needs 2 steps, has 1"
