from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules import NonfiniteGradient
from seismograd.schema import Finding, RowBatch, State, StepFlag
from tests.rules.cutting import codes, result, status
from tests.synthetic import block, make_parameters


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made], rules=(NonfiniteGradient,))
    return finding


norms = st.floats(0, 1e30) | st.sampled_from([0.0, 1e-300, 1e38])


@given(st.integers(1, 30), st.integers(1, 8), st.data())
def test_finite_gradients_are_never_found(
    num_steps: int, num_parameters: int, data: st.DataObject
) -> None:
    rows = st.lists(norms, min_size=num_parameters, max_size=num_parameters)
    made = block(data.draw(st.lists(rows, min_size=num_steps, max_size=num_steps)))
    assert "SG201" not in codes(made)
    assert status(made, "SG201").status == "clear"


@given(
    num_steps=st.integers(1, 40),
    num_parameters=st.integers(1, 12),
    value=st.sampled_from([np.nan, np.inf]),
    loss=st.sampled_from([np.nan, np.inf, -np.inf, 1.0]),
    data=st.data(),
)
def test_one_nonfinite_scalar_anywhere_is_found_at_its_step_and_never_clear(
    num_steps: int, num_parameters: int, value: float, loss: float, data: st.DataObject
) -> None:
    step, column = (
        data.draw(st.integers(0, num_steps - 1)),
        data.draw(st.integers(0, num_parameters - 1)),
    )
    norm = np.ones((num_steps, num_parameters))
    norm[step, column] = value
    made = block(norm, loss=loss)
    finding = only(made)
    assert (finding.severity, finding.first_step, finding.last_step) == ("error", step, step)
    assert finding.parameters == (made.parameters[column].name,)
    assert status(made, "SG201").status == "found"
    for value in finding.evidence:
        assert not np.isnan(value.value)


def test_the_parameter_nearest_to_the_loss_leads_whatever_the_order_of_columns() -> None:
    parameters = tuple(
        replace(each, depth=depth)
        for each, depth in zip(make_parameters(5), [3, None, 4, 0, 1], strict=True)
    )
    made = block([[1.0] * 5, [np.nan, np.nan, 1.0, np.nan, np.nan]], parameters=parameters)
    assert only(made).parameters == tuple(parameters[column].name for column in (0, 4, 3, 1))


def test_a_finite_loss_says_that_the_backward_pass_made_it() -> None:
    finding = only(
        block([[1.0, 1.0], [1.0, np.nan]], loss=[0.5, 0.4], values={"nonfinite": [[0, 0], [0, 3]]})
    )
    assert "the loss was still finite (0.4) at step 1" in finding.cause.render()
    assert "made 3 of the 8 gradient scalars of net.0.bias" in finding.cause.render()
    assert "reached 1 of 2 parameters" in finding.cause.render()
    assert "anomaly" in finding.advice.render()
    assert finding.where == "train.py:11"


@pytest.mark.parametrize("loss", [[0.5, np.nan], [np.nan, np.nan], [np.inf, np.inf], [0.5, np.inf]])
def test_a_loss_that_is_not_finite_is_to_blame_itself(loss: list[float]) -> None:
    norm = [[1.0, 1.0], [np.nan, np.nan]]
    assert "the loss itself was" in only(block(norm, loss=loss)).cause.render()


def test_a_loss_that_was_never_measured_is_not_blamed() -> None:
    finding = only(block([[1.0, 1.0], [np.nan, np.nan]], loss=np.nan, flags=int(StepFlag.NO_LOSS)))
    assert "the loss could not be measured" in finding.cause.render()


def test_weights_that_are_nan_already_are_told() -> None:
    finding = only(
        block([[np.nan, np.nan]], samples={"weight_norm": [[1.0, np.nan]]}, sample_rows=[0])
    )
    assert "the weights themselves were already NaN" in finding.cause.render()


def test_there_is_one_finding_for_the_whole_run() -> None:
    norm = np.ones((60, 4))
    norm[20:30, 2] = np.inf
    norm[40:, :] = np.nan
    finding = only(block(norm))
    assert (finding.first_step, finding.last_step) == (20, 59)
    assert finding.parameters == ("net.1.weight",)


@given(st.integers(1, 20), st.integers(0, 30))
def test_the_search_for_a_loss_scale_is_no_fault(skipped: int, good: int) -> None:
    norm = np.concatenate([np.full((skipped, 2), np.inf), np.ones((good, 2))])
    flags = np.where(np.arange(len(norm)) < skipped, StepFlag.SKIPPED, 0)
    assert codes(block(norm, flags=flags)) == []


def test_the_search_from_a_very_high_scale_is_no_fault() -> None:
    norm, flags = np.full((60, 2), np.inf), np.full(60, StepFlag.SKIPPED)
    for highest in (40.0, 24.0, 16.0):  # made anew all the time
        again = 2.0 ** np.tile(highest - np.arange(12), 5)
        assert codes(block(norm, flags=flags, scale=again)) == []
    found = only(block(norm, flags=flags, scale=2.0 ** (40.0 - np.arange(60))))
    assert (found.first_step, found.last_step) == (0, 59)


def test_a_loss_of_nan_is_not_the_scale_s() -> None:
    norm, flags = np.full((60, 2), np.nan), np.full(60, StepFlag.SKIPPED)
    again = 2.0 ** np.tile(40.0 - np.arange(12), 5)
    assert only(block(norm, flags=flags, scale=again, loss=np.nan)).first_step == 0


def test_skips_without_end_are_found_from_the_first() -> None:
    norm, flags = np.ones((40, 2)), np.zeros(40, int)
    norm[5:], flags[5:] = np.nan, StepFlag.SKIPPED
    finding = only(block(norm, flags=flags))
    assert (finding.first_step, finding.last_step) == (5, 39)
    norm[20], flags[20] = 1.0, 0
    assert codes(block(norm, flags=flags)) == []


def test_a_record_of_skipped_steps_alone_is_not_evaluated() -> None:
    made = block(np.full((4, 2), np.nan), flags=int(StepFlag.SKIPPED))
    assert status(made, "SG201").status == "not evaluated"


@given(st.integers(1, 20))
def test_absent_and_unmeasured_gradients_are_not_nonfinite(num_steps: int) -> None:
    for state in (State.ABSENT, State.NOT_MEASURED):
        made = block(np.full((num_steps, 2), np.nan), state=state)
        assert codes(made) == []
        assert status(made, "SG201").status == "not evaluated"
