"""With `every`, gradients are measured at some steps only. The others are not measured, never zero
or healthy; calls and losses are those of every step.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seismograd.capture.hub import HUB
from seismograd.capture.loop.measured_steps import FIRST_STEPS, Extent, MeasuredSteps
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.overhead_budget import WHOLE, Thinning
from seismograd.diagnosis.whole_record import diagnose
from seismograd.errors import SeismogradError
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import EventKind, Note, RowBatch, State, concatenate
from seismograd.settings.levels import DEEP, LIGHT, NORMAL, check_every, sketch_every
from tests.capture.sessions import make_session
from tests.single_rows import SingleRow, single_rows

EVERY = 4


def window(number: int, *losses: float) -> Any:
    known = [SimpleNamespace(known=True, value=loss) for loss in losses]
    return SimpleNamespace(num_steps=number, losses=known)


@given(st.integers(1, 50), st.integers(0, 300), st.sampled_from([10, 40, 160]))
def test_a_step_with_samples_is_measured(every: int, number: int, sample_every: int) -> None:
    steps = MeasuredSteps(every)
    extent, sampled = steps.extent(window(number), Thinning(sample_every))
    measured = number < FIRST_STEPS or number % every == 0
    assert extent is (Extent.MEASURED if measured else Extent.UNREAD)
    assert measured or not sampled
    assert sampled == (number % (sample_every * every) == 0)


def test_a_step_whose_loss_is_not_finite_is_measured_where_one_process_trains() -> None:
    for loss in (math.nan, math.inf):
        for single, extent in ((True, Extent.MEASURED), (False, Extent.UNREAD)):
            steps = MeasuredSteps(10, single)
            assert steps.extent(window(33, 1.0, loss), WHOLE) == (extent, False)
    late = SimpleNamespace(num_steps=33, losses=[SimpleNamespace(known=False, value=math.nan)])
    assert MeasuredSteps(10).extent(late, WHOLE)[0] is Extent.UNREAD  # type: ignore[arg-type]


def train(
    num_steps: int,
    every: int = EVERY,
    nan_loss_at: int = -1,
    by_hand: bool = False,
    spoilt_at: int = -1,
) -> list[RowBatch]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches, notes = list[RowBatch](), list[Note]()
    session = make_session(
        ReferenceBackend(),
        batches.append,
        notes.append,
        [model],
        [optimizer],
        measured_steps=MeasuredSteps(every),
    )
    inputs = torch.randn(64, 4)
    labels = inputs[:, :3].argmax(1)
    HUB.attach(session)
    try:
        for number in range(num_steps):
            chosen = torch.randint(0, 64, (16,))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
            (loss * math.nan if number == nan_loss_at else loss).backward()
            if number == spoilt_at:
                assert model[0].weight.grad is not None
                model[0].weight.grad[0, 0] = math.nan
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e3)
            torch.nn.utils.clip_grad_value_(model.parameters(), 1e3)
            if by_hand:
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.grad.mul_(1.0)
            optimizer.step()
    finally:
        HUB.detach(session)
        session.finish()
    assert session.guard.failures == {}, notes
    return batches


def rows_of(batches: list[RowBatch]) -> list[SingleRow]:
    return [row for batch in batches for row in single_rows(batch)]


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_is_not_measured_is_neither_zero_nor_finite(by_hand: bool) -> None:
    thinned, whole = rows_of(train(31, by_hand=by_hand)), rows_of(train(31, 1, by_hand=by_hand))
    for number, (row, full) in enumerate(zip(thinned, whole, strict=True)):
        measured = number < FIRST_STEPS or number % EVERY == 0
        assert (row.state == (State.FINITE if measured else State.NOT_MEASURED)).all()
        for name, values in row.values.items():
            # how the weights moved has its own turns
            if name not in ("update_ratio", "unmoved") or not measured:
                expected = full.values[name] if measured or name == "carried" else math.nan
                np.testing.assert_array_equal(values, np.broadcast_to(expected, values.shape), name)
        # what was called, and with which losses and limits, is of every step
        for name in ("kind", "site", "touched", "flags", "value", "limit"):
            np.testing.assert_array_equal(row.events[name], full.events[name], name)
        assert row.step["loss"] == full.step["loss"]
        assert {EventKind.BACKWARD, EventKind.CLIP} <= set(row.events["kind"].tolist())


def test_nothing_is_found_in_a_healthy_run() -> None:
    for every in (4, 10, 50):
        batches = train(130, every)
        assert [finding.code for finding in diagnose([concatenate(batches)]).findings()] == []


def test_a_loss_that_is_not_finite_is_found_with_its_gradients() -> None:
    rows = rows_of(train(25, nan_loss_at=22))
    assert (rows[21].state == State.NOT_MEASURED).all()
    assert (rows[22].state == State.NONFINITE).any()


def test_spoilt_weights_are_found_at_the_next_step() -> None:
    """The loss is not finite then, so that step is measured."""
    rows = rows_of(train(25, spoilt_at=21))
    assert (rows[21].state == State.NOT_MEASURED).all()
    assert (rows[22].state == State.NONFINITE).any()


@pytest.mark.parametrize("every", [1, 2, 7, 10, 30, 100, 130])
def test_sketches_come_at_measured_steps(every: int) -> None:
    for level, period in ((NORMAL, 100), (DEEP, 10)):
        assert sketch_every(level, every) % every == 0
        assert sketch_every(level, every) >= period
    assert sketch_every(LIGHT, every) == 0


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_number_of_steps_is_a_positive_number(every: Any) -> None:
    with pytest.raises(SeismogradError):
        check_every(every)


def test_the_guard_judges_every_update() -> None:
    assert check_every(1, guard=True) == 1
    assert check_every(10) == 10
    with pytest.raises(SeismogradError):
        check_every(10, guard=True)


def test_what_options_leave_out_was_measured() -> None:
    spent = MeasuringTime(2.0, 10, 3.0, 10, probes_s=0.5, signals_s=0.25)
    assert spent.of_samples() == pytest.approx(1.75)
    assert spent.of_steps(10) == pytest.approx(4.95)
    assert MeasuringTime(sampled_s=1.0, num_sampled=1).of_samples() == 0.0
