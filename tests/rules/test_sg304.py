from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.schema import EventKind, Finding, RowBatch
from tests.rules.cutting import codes, cut, result, status
from tests.rules.stream import at, stream


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made])
    return finding


@given(st.integers(3, 40))
def test_a_clip_after_the_step_is_found_in_the_third_window(num_steps: int) -> None:
    made = stream("z b s c " * num_steps, norm=3.0)
    finding = only(made)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG304",
        "error",
        0,
        num_steps - 1,
    )
    assert finding.where == at("c")
    assert (
        "the clip at train.py:14 comes after optimizer.step() at train.py:15"
        in finding.cause.render()
    )
    assert codes(cut(made, [3])[0]) == ["SG304"]


def test_a_clip_before_backward_is_found() -> None:
    finding = only(stream("z c b s " * 10, norm=3.0))
    assert (finding.code, finding.first_step) == ("SG304", 0)
    assert "comes before backward at train.py:12 has computed a gradient" in finding.cause.render()
    assert (
        finding.excerpt.splitlines()[1] == "torch.nn.utils.clip_grad_norm_(model.parameters(), 1)"
    )


@pytest.mark.parametrize("loop", ["c b c b s z ", "b s c z ", "b s z c "])
def test_other_orders_in_which_the_last_gradient_is_not_clipped_are_found(loop: str) -> None:
    assert only(stream(loop * 10, total=1 / 2 if loop.count("b") > 1 else 1.0)).code == "SG304"


@pytest.mark.parametrize("loop", ["z b c s ", "b c s z ", "z b c b c s ", "z b c s c "])
def test_a_clip_that_works_is_healthy(loop: str) -> None:
    assert codes(stream(loop * 20, total=1 / 2 if loop.count("b") > 1 else 1.0)) == []


@pytest.mark.parametrize("limit", [float("inf"), 1e9])
def test_measuring_the_norm_after_the_step_is_healthy(limit: float) -> None:
    assert codes(stream("z b s c " * 20, limit=limit)) == []


def test_a_clip_of_nothing_that_is_held_is_found() -> None:
    made = stream("z b c s " * 10, norm=3.0)
    events = made.events.copy()
    events["touched"][events["kind"] == EventKind.CLIP] = 0
    assert "gradients that no optimizer holds" in only(replace(made, events=events)).cause.render()


def test_a_clip_of_another_model_is_not_held_against_this_one() -> None:
    made = stream("z b c s " * 10, norm=3.0)
    events = made.events.copy()
    events["touched"][events["kind"] == EventKind.CLIP] = 2
    assert codes(replace(made, events=events)) == []


def test_evidence_is_the_norm_that_was_applied() -> None:
    made = stream("z c b s " * 10, norm=3.0)
    made = replace(made, steps=_with(made.steps, applied_norm=3.0))
    (evidence,) = only(made).evidence
    assert (evidence.statistic, evidence.value, evidence.limit) == ("applied_norm", 3.0, 1.0)


def _with(steps: np.ndarray, **columns: float) -> np.ndarray:
    changed = steps.copy()
    for name, value in columns.items():
        changed[name] = value
    return changed


def test_one_step_is_not_evaluated() -> None:
    assert status(stream("z b s"), "SG304").reason.render() == "needs 2 steps, has 1"
