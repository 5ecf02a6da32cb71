"""The rules about the signal on made-up records: where blocks are cut, scale, and NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from seismograd.rules import (
    DeadUnits,
    GradientSpike,
    GradientUnderflow,
    LostUpdates,
    NonfiniteLoss,
    RankOutlier,
    ReplicaDrift,
    SkippedSteps,
    TaskConflict,
    TaskDominance,
    UpdateTooLarge,
    UpdateTooSmall,
)
from seismograd.schema import (
    PAIR_DTYPE,
    RANK_DTYPE,
    Optimizer,
    RankFlag,
    RowBatch,
    StepFlag,
)
from tests.rules.cutting import cut, result, row_by_row
from tests.rules.made import Made, _segments
from tests.synthetic import block, make_parameters

SIGNAL = (
    GradientSpike,
    DeadUnits,
    GradientUnderflow,
    LostUpdates,
    UpdateTooLarge,
    UpdateTooSmall,
    NonfiniteLoss,
    SkippedSteps,
    TaskConflict,
    TaskDominance,
    ReplicaDrift,
    RankOutlier,
)


def pairs_of(num_steps: int, cosine: float, ratio: float, rng: np.random.Generator) -> np.ndarray:
    made = np.zeros(num_steps, PAIR_DTYPE)
    made["iteration"], made["parameter"], made["first"], made["second"] = (
        np.arange(num_steps),
        -1,
        0,
        1,
    )
    made["first_norm"], made["second_norm"] = (
        ratio * rng.lognormal(0, 0.3, num_steps),
        rng.lognormal(0, 0.3, num_steps),
    )
    made["cosine"] = np.where(
        rng.random(num_steps) < 0.1, np.nan, np.clip(cosine + rng.normal(0, 0.1, num_steps), -1, 1)
    )
    return made


def ranks_of(
    num_steps: int, num_ranks: int, since: int, factor: float, bad: int, rng: np.random.Generator
) -> np.ndarray:
    """Processes whose last one differs from a step on, is larger by a factor, and has NaN in one
    step.
    """
    made = np.zeros(num_steps * num_ranks, RANK_DTYPE)
    made["iteration"], made["rank"] = (
        np.repeat(np.arange(num_steps), num_ranks),
        np.tile(np.arange(num_ranks), num_steps),
    )
    last = made["rank"] == num_ranks - 1
    made["weight_checksum"] = 7 + made["iteration"] + (last & (made["iteration"] >= since))
    made["local_norm"] = rng.lognormal(0, 0.2, len(made)) * np.where(last, factor, 1)
    made["local_nonfinite"] = last & (made["iteration"] == bad)
    made["local_norm"][made["local_nonfinite"] > 0] = np.nan
    made["flags"] = int(RankFlag.REPORTED | RankFlag.LOCAL) + np.where(
        made["iteration"] % 5 == 0, int(RankFlag.CHECKSUM), 0
    )
    return made


@st.composite
def signals(draw: st.DrawFn) -> Made:
    num_layers, num_steps = draw(st.integers(1, 4)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num = 2 * num_layers
    choose = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    fault = choose("", "", "lost", "large", "dead", "underflow")
    ratio = (2.0 if fault == "large" else choose(1e-8, 1e-5, 1e-3, 0.1)) * rng.lognormal(
        0, 0.3, (num_steps, num)
    )
    ratio[(np.arange(num_steps)[:, None] + np.arange(num)) % choose(2, 10) != 0] = np.nan
    share = (0.98 if fault == "lost" else choose(0.0, 0.5)) + rng.normal(0, 0.01, ratio.shape)
    unmoved = np.where(np.isnan(ratio), np.nan, np.clip(share, 0, 1))
    norm = (1e-6 if fault == "underflow" else 10.0 ** choose(-20, 0, 10)) * rng.lognormal(
        0, 0.2, (num_steps, num)
    )
    loss = np.linspace(1, 8.0 if fault == "large" else choose(1.0, 0.1), num_steps) * rng.lognormal(
        0, choose(0.01, 0.3), num_steps
    )
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, num_steps - 1))
        norm[at] *= choose(5.0, 1e3)
        loss[at] *= choose(1.0, 20.0, -1.0, np.nan, np.inf)
    dtype = "float16" if fault in ("lost", "underflow") else choose("float32", "bfloat16")
    activation = choose("relu", "relu", "")
    parameters = tuple(
        replace(each, activation=activation, group=column * draw(st.integers(0, 1)) // 2)
        for column, each in enumerate(make_parameters(num, dtype=dtype))
    )
    samples = (num_steps + 9) // 10
    dead = rng.binomial(8, 1.0 if fault == "dead" else choose(0.0, 0.5), (samples, num))
    made = block(
        norm,
        parameters=parameters,
        loss=loss,
        lr=np.linspace(choose(0.1, 1e-7, 0.0), choose(0.1, 1e-7, 0.0), num_steps),
        scale=np.where(rng.random(num_steps) < choose(0.0, 0.5), 1024.0, 512.0)
        if draw(st.booleans())
        else 1.0,
        flags=np.where(rng.random(num_steps) < choose(0.0, 0.2), int(StepFlag.SKIPPED), 0),
        values={"update_ratio": ratio, "unmoved": unmoved},
        samples={"dead_rows": dead},
        optimizers=(Optimizer(0, choose("SGD", "Adam"), "optimizer"),),
        pairs=pairs_of(num_steps, choose(-0.8, 0.0), choose(1.0, 100.0), rng)
        if draw(st.booleans())
        else None,
        ranks=ranks_of(
            num_steps,
            3,
            draw(st.integers(0, 80)),
            choose(1.0, 30.0),
            draw(st.integers(0, 200)),
            rng,
        )
        if draw(st.booleans())
        else None,
    )
    order = list(draw(st.permutations(range(num))))
    return _segments(
        made, draw(st.integers(0, num_steps)), order if draw(st.booleans()) else sorted(order)
    )


@settings(max_examples=60)
@given(signals(), st.lists(st.integers(1, 70), max_size=8))
def test_what_is_found_in_a_signal_does_not_depend_on_cuts(
    blocks: list[RowBatch], positions: list[int]
) -> None:
    whole = result(blocks, rules=SIGNAL)
    for finding in whole[0]:
        event(finding.code)
        for code in finding.related:
            event(code)
    assert repr(
        result((each for made in blocks for each in cut(made, positions)), rules=SIGNAL)
    ) == repr(whole)
    assert repr(result(row_by_row(blocks), rules=SIGNAL)) == repr(whole)
    assert not any("failed" in status.reason.render() for status in whole[1])


@settings(max_examples=30)
@given(signals(), st.integers(-12, 12))
def test_the_unit_of_the_loss_makes_no_difference(blocks: list[RowBatch], power: int) -> None:
    def in_units(made: RowBatch) -> RowBatch:
        steps = made.steps.copy()
        for name in ("loss", "grad_norm", "applied_norm"):
            steps[name] *= 2.0**power
        values = {
            name: value * 2.0**power if name in ("grad_norm", "applied_norm") else value
            for name, value in made.values.items()
        }
        return replace(made, steps=steps, values=values)

    scale_free = (
        GradientSpike,
        DeadUnits,
        LostUpdates,
        UpdateTooSmall,
        TaskConflict,
        TaskDominance,
    )
    one, other = (result(made, rules=scale_free)[0] for made in (blocks, map(in_units, blocks)))
    assert [(each.code, each.first_step, each.last_step) for each in one] == [
        (each.code, each.first_step, each.last_step) for each in other
    ]
