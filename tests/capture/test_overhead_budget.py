"""Watching leaves things out before it takes more than its share, never the look for what is not
finite, and then finds nothing wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from seismograd.capture.hub import HUB
from seismograd.capture.loop.overhead_budget import (
    FEWER_MEASURED,
    FEWER_SAMPLES,
    MIN_TIME_S,
    WHOLE,
    WINDOW,
    OverheadBudget,
    Thinning,
)
from seismograd.cli.run import _share as share_of
from seismograd.diagnosis.whole_record import diagnose
from seismograd.errors import SeismogradError
from seismograd.measure.finite import all_finite
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import Note, RowBatch, State, concatenate
from seismograd.settings.levels import check_budget
from tests.capture.sessions import make_session
from tests.single_rows import SingleRow, single_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def run(
    budget: OverheadBudget, num_steps: int, step_s: float, overhead_s: Callable[[Thinning], float]
) -> tuple[list[Thinning], list[str]]:
    """What was measured at each step by a clock of our own, and what the user was told."""
    seen, told, now = list[Thinning](), list[str](), 0.0
    for _ in range(num_steps):
        cost = overhead_s(budget.thinning)
        now += step_s + cost
        seen.append(budget.thinning)
        said = budget.step_ended(now, cost)
        if said is not None:
            told.append(said.render())
    return seen, told


def changes(seen: list[Thinning]) -> int:
    return sum(one != other for one, other in itertools.pairwise(seen))


def test_within_the_budget_everything_is_measured() -> None:
    seen, told = run(OverheadBudget(0.02), 5000, 1.0, lambda _: 0.019)
    assert set(seen) == {WHOLE}
    assert told == []


def test_beyond_it_less_is_measured_step_by_step_and_each_time_it_is_said() -> None:
    seen, told = run(OverheadBudget(0.02, FEWER_MEASURED), 20 * WINDOW, 1.0, lambda _: 0.1)
    assert tuple(dict.fromkeys(seen)) == FEWER_MEASURED
    assert len(told) == len(FEWER_MEASURED) - 1
    assert "9.1% of the time" in told[0]
    assert "budget of 2%" in told[0]


def test_it_stops_where_the_share_is_kept() -> None:
    cost = {FEWER_SAMPLES[0]: 0.03, FEWER_SAMPLES[1]: 0.015, FEWER_SAMPLES[2]: 0.001}
    seen, told = run(OverheadBudget(0.02), 100 * WINDOW, 1.0, lambda thinning: cost[thinning])
    assert seen[-1] == FEWER_SAMPLES[1]
    assert changes(seen) == len(told) == 1


def test_it_does_not_swing_between_too_much_and_too_little() -> None:
    cost = {FEWER_SAMPLES[0]: 0.05, FEWER_SAMPLES[1]: 0.03, FEWER_SAMPLES[2]: 0.0001}
    seen, told = run(OverheadBudget(0.02), 1000 * WINDOW, 1.0, lambda thinning: cost[thinning])
    assert changes(seen) < 50
    assert seen.count(FEWER_SAMPLES[2]) > 0.9 * len(seen)
    assert len(told) == 2


def test_what_a_slow_moment_left_out_is_taken_up_again() -> None:
    budget = OverheadBudget(0.02)
    run(budget, 4 * WINDOW, 1.0, lambda _: 0.5)
    assert budget.thinning != WHOLE
    seen, _ = run(budget, 10 * WINDOW, 1.0, lambda _: 0.001)
    assert seen[-1] == WHOLE


def test_by_default_short_runs_and_short_steps_stay_whole() -> None:
    num_steps = int(MIN_TIME_S / 0.02)
    assert set(run(OverheadBudget(), num_steps - 1, 0.01, lambda _: 0.01)[0]) == {WHOLE}
    assert set(run(OverheadBudget(), 100_000, 0.0008, lambda _: 0.0004)[0]) == {WHOLE}
    assert run(OverheadBudget(), 100_000, 0.01, lambda _: 0.01)[0][-1] != WHOLE
    assert run(OverheadBudget(0.02), 2 * WINDOW + 2, 0.0008, lambda _: 0.0004)[0][-1] != WHOLE


def test_a_clock_that_stands_still_does_no_harm() -> None:
    run(OverheadBudget(0.02), 200, 0.0, lambda _: 0.0)


def train(ladder: tuple[Thinning, ...], num_steps: int, nonfinite_at: int = -1) -> list[RowBatch]:
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
        budget=OverheadBudget(ladder=ladder),
    )
    inputs = torch.randn(64, 4)
    labels = inputs[:, :3].argmax(1)
    HUB.attach(session)
    try:
        for number in range(num_steps):
            chosen = torch.randint(0, 64, (16,))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            if number == nonfinite_at:
                assert model[0].weight.grad is not None
                model[0].weight.grad[0, 0] = math.nan
            optimizer.step()
    finally:
        HUB.detach(session)
        session.finish()
    assert session.guard.failures == {}, notes
    return batches


def rows_of(batches: list[RowBatch]) -> list[SingleRow]:
    return [row for batch in batches for row in single_rows(batch)]


EVERY_FOURTH = (Thinning(160, 4, False),)


def test_between_measured_steps_nothing_is_measured_and_nothing_is_zero() -> None:
    rows = rows_of(train(EVERY_FOURTH, 9))
    for number, row in enumerate(rows):
        expected = State.FINITE if number % 4 == 0 else State.NOT_MEASURED
        assert (row.state == expected).all()
        assert np.isnan(row.values["grad_norm"]).all() == (number % 4 != 0)
        assert np.isnan(row.step["grad_norm"]) == (number % 4 != 0)
        assert math.isfinite(row.step["loss"])


def test_what_is_not_finite_is_seen_between_them_too() -> None:
    rows = rows_of(train(EVERY_FOURTH, 7, nonfinite_at=6))
    assert sorted(rows[6].state) == [State.FINITE, State.FINITE, State.FINITE, State.NONFINITE]
    assert sum(rows[6].values["nonfinite"]) == 1


@pytest.mark.parametrize("thinning", FEWER_MEASURED)
def test_no_rule_finds_anything_in_a_thinned_healthy_run(thinning: Thinning) -> None:
    batches = train((thinning,), 130)
    assert [finding.code for finding in diagnose([concatenate(batches)]).findings()] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.complex64])
def test_a_check_misses_nothing(value: float, dtype: torch.dtype) -> None:
    for position in (0, 2):
        gradients = [
            torch.ones(3, dtype=dtype),
            torch.zeros(0, dtype=dtype),
            torch.ones(2, 2, dtype=dtype),
        ]
        assert all_finite(gradients)
        gradients[position].view(-1)[1] = value
        assert not all_finite(gradients)


@pytest.mark.parametrize(
    ("said", "share"), [(None, None), ("2", 0.02), ("0.5%", 0.005), ("100", 1.0)]
)
def test_the_command_takes_per_cent(said: str | None, share: float | None) -> None:
    assert share_of(said) == share


@pytest.mark.parametrize("said", ["much", "", "0", "-1", "101", "nan"])
def test_the_command_refuses_what_is_no_share(said: str) -> None:
    with pytest.raises(SeismogradError):
        share_of(said)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
def test_a_budget_is_a_share(share: float) -> None:
    with pytest.raises(SeismogradError):
        check_budget(share)
