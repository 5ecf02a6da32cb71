from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.schema import EventFlag, EventKind, Finding, Optimizer, State, StepFlag
from tests.rules.cutting import codes, cut, result, status
from tests.rules.stream import at, stream


def only(calls: str) -> Finding:
    (finding,), _ = result([stream(calls)])
    return finding


@given(st.integers(1, 60), st.integers(0, 60))
def test_a_gradient_that_is_used_again_is_found_at_once_and_once_is_enough(
    before: int, after: int
) -> None:
    made = stream("z b s " * before + "s " + "z b s " * after)
    (finding,), _ = result([made])
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG303",
        "error",
        before,
        before,
    )
    assert finding.where == at("s")
    assert codes(cut(made, [before + 1])[0]) == ["SG303"]
    assert "without a backward since the step before" in finding.cause.render()


def test_each_such_step_moves_the_last_one_on() -> None:
    assert only("z b s s " * 10).last_step == 19


@pytest.mark.parametrize("loop", ["z s ", "s z ", "s "])
def test_no_backward_at_all_is_found_in_the_third_step(loop: str) -> None:
    made = stream(loop * 10)
    (finding,), _ = result([made])
    assert (finding.code, finding.first_step) == ("SG303", 0)
    assert codes(cut(made, [3])[0]) == ["SG303"]
    assert "no backward is called before it" in finding.cause.render()


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        ("each.step()", "loss.backward()\nfor optimizer in both:\n    optimizer.step()"),
        ("both[0].step()", "both[0].zero_grad()\nloss.backward()\nboth[0].step()"),
    ],
)
def test_the_advice_for_a_loop_over_optimizers_stands_before_it(text: str, excerpt: str) -> None:
    made = stream("z s " * 10)
    sites = [replace(each, text=text) for each in made.sites]
    made = replace(made, sites=sites, optimizers=(Optimizer(0, "SGD", "both[0]"),))
    (finding,), _ = result([made])
    assert finding.excerpt == excerpt


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_last_step_of_an_epoch_with_nothing_left_over_is_healthy(epochs: int) -> None:
    assert codes(stream(("b b s z " * 6 + "s z ") * epochs, total=1 / 2)) == []


def test_a_first_step_before_any_backward_is_healthy() -> None:
    assert codes(stream("s z " + "b s z " * 20)) == []


def test_steps_without_a_gradient_are_found_when_they_are_often() -> None:
    assert codes(stream("b s z s z " * 12)) == ["SG303"]


def test_one_step_is_not_evaluated() -> None:
    assert status(stream("z b s"), "SG303").reason.render() == "needs 2 steps, has 1"


@pytest.mark.parametrize(("steps", "found"), [(49, []), (50, ["SG303"])])
def test_an_optimizer_that_no_backward_reaches_any_more(steps: int, found: list[str]) -> None:
    made = stream("z b s " * (steps + 3))
    events, rows = made.events.copy(), made.steps.copy()
    late = np.arange(len(rows)) >= 3
    made.state[late] = int(State.ABSENT)
    rows["flags"][late] |= int(StepFlag.NO_BACKWARD)
    is_late = events["iteration"] >= 3
    events["touched"][is_late & (events["kind"] == int(EventKind.BACKWARD))] = 0
    events["flags"][is_late & (events["kind"] == int(EventKind.STEP))] |= int(EventFlag.EMPTY)
    findings, _ = result([replace(made, events=events, steps=rows)])
    named = [each for each in findings if each.code == "SG303"]
    assert [each.code for each in named] == found
    if named:
        assert (named[0].severity, named[0].first_step) == ("warning", 3)
        assert "though they had gradients before" in named[0].cause.render()
