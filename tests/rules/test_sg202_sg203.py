"""Losses that are not finite, where they came from, and steps that are skipped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules import NonfiniteGradient, NonfiniteLoss, SkippedSteps
from seismograd.schema import EventKind, Finding, Origin, StepFlag
from tests.rules.cutting import codes, result
from tests.synthetic import block, event

SKIPPED = int(StepFlag.SKIPPED)
WORDS = {
    Origin.INPUT: "the data is the cause",
    Origin.WEIGHT: "the weights already contained NaN",
    Origin.ACTIVATION: "an operation in the forward pass",
    Origin.LOSS: "the loss computed from it",
    Origin.UNKNOWN: "the loss itself was",
}


@given(step=st.integers(0, 20), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_the_first_loss_that_is_not_finite_is_found(step: int, value: float) -> None:
    loss = np.ones(25)
    loss[step:] = value
    (finding,), _ = result([block(np.ones((25, 2)), loss=loss)], rules=(NonfiniteLoss,))
    assert (finding.first_step, finding.last_step) == (step, 24)
    assert not any(np.isnan(each.value) for each in finding.evidence)


def test_losses_that_could_not_be_read_are_not_nan() -> None:
    assert codes(block(np.ones((25, 2)), loss=np.nan, flags=int(StepFlag.NO_LOSS))) == []


def test_an_infinite_loss_of_a_skipped_step_may_come_from_the_scale_and_a_nan_may_not() -> None:
    for value, wanted in ((np.inf, []), (np.nan, ["SG202"])):
        loss, flags = np.ones(30), np.zeros(30, int)
        loss[:8], flags[:8] = value, SKIPPED
        findings, _ = result(
            [block(np.ones((30, 2)), loss=loss, flags=flags)], rules=(NonfiniteLoss,)
        )
        assert [each.code for each in findings] == wanted


@pytest.mark.parametrize("origin", WORDS)
@pytest.mark.parametrize("rule", [NonfiniteLoss, NonfiniteGradient])
def test_the_operations_behind_the_loss_tell_where_it_came_from(rule: type, origin: Origin) -> None:
    events = [event(EventKind.BACKWARD, 1, value=np.nan, site=1, optimizer=-1, detail=int(origin))]
    made = block([[1.0, 1.0], [np.nan, np.nan]], loss=[1.0, np.nan], events=events)
    (finding,), _ = result([made], rules=(rule,))
    assert WORDS[origin] in finding.cause.render()
    assert (finding.where, finding.seen_only) == ("train.py:11", True)  # that of backward()


def skips(scale: np.ndarray, skipped: np.ndarray) -> tuple[Finding, ...]:
    made = block(np.ones((len(scale), 2)), scale=scale, flags=np.where(skipped, SKIPPED, 0))
    return result([made], rules=(SkippedSteps,))[0]


@given(start=st.integers(0, 20), growth=st.integers(3, 40), num=st.integers(1, 200))
def test_the_search_of_a_scaler_is_never_found(start: int, growth: int, num: int) -> None:
    """It halves until a step works, and doubles after so many that did."""
    limit, scale, good = 2.0**16, 2.0 ** (16 + start), 0
    scales, skipped = [], []
    for _ in range(num):
        scales.append(scale)
        skipped.append(scale > limit)
        good = 0 if scale > limit else good + 1
        scale = scale / 2 if scale > limit else scale * 2 if good == growth else scale
        good %= growth
    assert skips(np.array(scales), np.array(skipped)) == ()


def test_skips_at_scales_that_worked_are_found() -> None:
    step = np.arange(60)
    skipped = (step > 5) & (step % 6 == 0)
    (finding,) = skips(2.0 ** (16 - np.cumsum(skipped) + skipped), skipped)
    assert (finding.first_step, finding.last_step) == (6, 54)


def test_a_scale_that_sinks_below_one_is_found() -> None:
    scale = 2.0 ** (4 - np.arange(10))
    (finding,) = skips(scale, np.ones(10, bool))
    assert finding.last_step == 9
    assert "where no scale can help" in finding.cause.render()


def test_two_bad_batches_in_a_thousand_are_no_fault() -> None:
    skipped = np.isin(np.arange(1000), (300, 700))
    assert skips(np.full(1000, 1024.0), skipped) == ()
