"""Losses that conflict with or drown each other, in made-up records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules import TaskConflict, TaskDominance
from seismograd.schema import PAIR_DTYPE, EventFlag, EventKind, Optimizer, RowBatch, Site
from tests.rules.cutting import result
from tests.synthetic import block, event

SITES = (
    Site("train.py", 20, "train", "depth"),
    Site("train.py", 21, "train", "normals"),
    Site("train.py", 22, "train"),
)


def run(
    cosine: np.ndarray,
    ratio: float = 1.0,
    *,
    flags: tuple[int, int] = (0, 0),
    turns: int = 1,
    sites: tuple[Site, ...] = SITES,
    summed: bool = False,
) -> RowBatch:
    """Two losses that are compared in each step, at their weights unless they are `summed`; `turns`
    optimizers step in turn.
    """
    num = len(cosine)
    pairs = np.zeros(num, PAIR_DTYPE)
    pairs["iteration"], pairs["parameter"], pairs["second"] = np.arange(num), -1, 1
    pairs["first_norm"], pairs["second_norm"], pairs["cosine"] = ratio, 1.0, cosine
    if not summed:
        at_weights = pairs.copy()
        at_weights["parameter"] = 0
        pairs = np.stack([pairs, at_weights], axis=1).reshape(-1)
    events = [
        event(EventKind.BACKWARD, step, value=1.0, site=site, optimizer=-1, flags=flags[site])
        for step in range(num)
        for site in (0, 1)
    ]
    optimizers = tuple(Optimizer(index, "Adam", f"opt_{index}") for index in range(turns))
    optimizer = np.arange(num) % turns
    return block(
        np.ones((num, 2)),
        pairs=pairs,
        events=events,
        sites=sites,
        optimizer=optimizer,
        optimizers=optimizers,
    )


def codes(made: RowBatch) -> list[str]:
    return [each.code for each in result([made], rules=(TaskConflict, TaskDominance))[0]]


@given(
    level=st.floats(-0.95, -0.45),
    seed=st.integers(0, 2**32),
    num=st.integers(8, 60),
    power=st.integers(-20, 20),
)
def test_gradients_that_point_apart_are_found_at_any_scale(
    level: float, seed: int, num: int, power: int
) -> None:
    cosine = np.clip(level + np.random.default_rng(seed).normal(0, 0.05, num), -1, 1)
    made = run(cosine)
    for name in ("first_norm", "second_norm"):
        made.pairs[name] *= 2.0**power
    (finding,), _ = result([made], rules=(TaskConflict,))
    assert (finding.first_step, finding.last_step) == (0, num - 1)
    assert "the losses depth and normals conflict" in finding.cause.render()


@given(level=st.floats(-0.1, 1), seed=st.integers(0, 2**32), num=st.integers(1, 60))
def test_gradients_that_go_together_or_do_not_care_are_never_found(
    level: float, seed: int, num: int
) -> None:
    assert (
        codes(run(np.clip(level + np.random.default_rng(seed).normal(0, 0.15, num), -1, 1))) == []
    )


def test_a_penalty_that_comes_to_balance_is_no_conflict() -> None:
    assert codes(run(np.concatenate([np.full(12, 0.0), np.full(60, -1.0)]))) == []


def test_summed_losses_may_dominate_but_their_conflict_is_not_judged() -> None:
    apart = np.full(30, -0.9)
    assert codes(run(apart)) == ["SG601"]
    assert codes(run(apart, summed=True)) == []
    assert codes(run(apart, 100.0, summed=True)) == ["SG602"]
    _, statuses = result([run(apart, summed=True)], rules=(TaskConflict, TaskDominance))
    assert {each.code: each.status for each in statuses} == {
        "SG601": "not evaluated",
        "SG602": "clear",
    }


def test_losses_of_a_discriminator_may_pull_apart() -> None:
    unnamed = (Site("gan.py", 20, "train"), Site("gan.py", 21, "train"))
    assert codes(run(np.full(30, -0.9), turns=2, sites=unnamed)) == []
    assert codes(
        run(np.full(30, -0.9), turns=2, sites=unnamed, flags=(0, int(EventFlag.SHARED)))
    ) == ["SG601"]


@pytest.mark.parametrize("ratio", [100.0, 0.01, 40.0])
def test_a_loss_that_is_many_times_as_large_dominates(ratio: float) -> None:
    (finding,), _ = result([run(np.zeros(20), ratio)], rules=(TaskDominance,))
    large, small = ("depth", "normals") if ratio > 1 else ("normals", "depth")
    assert finding.cause.render().startswith(f"the loss {large} dominates {small}")
    assert finding.evidence[0].value > finding.evidence[0].limit


@pytest.mark.parametrize("ratio", [1.0, 10.0, 0.1])
def test_losses_of_one_order_do_not_dominate(ratio: float) -> None:
    assert codes(run(np.zeros(20), ratio)) == []


def test_a_loss_that_the_script_makes_small_is_meant_to_be() -> None:
    assert codes(run(np.zeros(20), 100.0, flags=(0, int(EventFlag.RESCALED)))) == []
    assert codes(run(np.zeros(20), 100.0, flags=(int(EventFlag.RESCALED), 0))) == ["SG602"]


def test_unknown_cosines_and_zero_norms_say_nothing() -> None:
    made = run(np.full(20, np.nan), 0.0)
    assert codes(made) == []


def test_a_few_comparisons_are_not_evaluated() -> None:
    statuses = result([run(np.full(4, -0.9), 100.0)], rules=(TaskConflict, TaskDominance))[1]
    assert {status.status for status in statuses} == {"not evaluated"}


def test_few_comparisons_are_enough_where_the_training_is_over() -> None:
    ratio = np.full(30, 1e5)
    ratio[3:] = np.inf
    cosine = np.where(np.isfinite(ratio), 0.1, np.nan)
    assert codes(run(cosine, ratio)) == ["SG602"]
    assert codes(run(cosine, np.where(np.isfinite(ratio), 100.0, np.inf))) == []
    assert codes(run(cosine[:3], ratio[:3])) == []


def test_comparisons_of_infinities_are_none() -> None:
    made = run(np.full(30, np.nan), np.full(30, np.inf))
    _, statuses = result([made], rules=(TaskDominance,))
    assert [each.status for each in statuses] == ["not evaluated"]
