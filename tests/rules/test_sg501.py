from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg501_clipping_saturated import ClippingSaturated
from seismograd.schema import EventKind, Finding, Optimizer, RowBatch
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.synthetic import block, event, ordinary_events


def clipped(
    ratios: np.ndarray,
    limit: float = 1.0,
    update: float = 1e-5,
    kind: str = "SGD",
    scale: float = 1.0,
) -> RowBatch:
    """Steps whose norm is this many times the limit."""
    norm = ratios * limit * scale
    coefficient = np.minimum(1, limit * scale / norm)
    events = ordinary_events(len(ratios))
    for row in reversed(range(len(ratios))):
        events.insert(
            3 * row + 2,
            event(
                EventKind.CLIP,
                row,
                value=norm[row],
                limit=limit * scale,
                site=1,
                optimizer=0,
                touched=1,
                detail=1,
            ),
        )
    return block(
        np.repeat(norm[:, None] / 2, 4, axis=1),
        values={
            "update_ratio": np.full((len(ratios), 4), update),
            "applied_norm": np.repeat((norm * coefficient)[:, None] / 2, 4, axis=1),
        },
        clip_norm=norm,
        clip_limit=limit * scale,
        clip_coefficient=coefficient,
        applied_norm=norm * coefficient,
        events=events,
        optimizers=(Optimizer(0, kind, "optimizer"),),
    )


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made], rules=ALONE)
    return finding


ALONE = (ClippingSaturated,)

noise = np.random.default_rng(0).uniform(0.5, 2.0, 200)


@given(st.floats(50, 1e6), st.sampled_from([1e-3, 1.0, 1e3]), st.integers(30, 60))
def test_a_limit_far_below_the_norm_is_found_whatever_the_scale(
    ratio: float, scale: float, num_steps: int
) -> None:
    made = clipped(ratio * noise[:num_steps], scale=scale)
    finding = only(made)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG501",
        "warning",
        0,
        num_steps - 1,
    )
    assert finding.where == "train.py:11"
    assert result(cut(made, [30])[:1], rules=ALONE)[0]
    assert result(row_by_row([made]), rules=ALONE) == result([made], rules=ALONE)


def test_it_says_what_the_learning_rate_really_is() -> None:
    assert (
        "the learning rate of 0.1 is really one of 0.0001"
        in only(clipped(np.full(40, 1000.0))).cause.render()
    )


@pytest.mark.parametrize("ratio", [0.5, 2.0, 8.0])
def test_clips_that_do_not_bind_by_far_are_healthy(ratio: float) -> None:
    assert codes(clipped(ratio * noise)) == []


def test_clips_that_bind_only_at_first_are_healthy() -> None:
    assert codes(clipped(np.concatenate([np.full(20, 500.0), 0.5 * noise]))) == []


def test_a_low_limit_with_a_high_learning_rate_is_healthy() -> None:
    assert codes(clipped(50 * noise, update=5e-3)) == []


def test_adam_does_not_mind() -> None:
    assert codes(clipped(30 * noise, kind="Adam")) == []
    assert only(clipped(500 * noise, kind="Adam")).severity == "info"


def test_adam_minds_what_is_near_its_epsilon() -> None:
    assert only(clipped(1e6 * noise, limit=1e-6, kind="AdamW")).severity == "warning"


def test_too_few_steps_are_not_evaluated() -> None:
    assert status(clipped(1000 * noise[:20]), "SG501").reason.render() == "needs 30 steps, has 20"


def test_values_that_are_nearly_all_at_the_limit_are_found() -> None:
    made = clipped(200 * noise[:40])
    finding = only(replace(made, steps=_without_norm(made)))
    assert finding.severity == "warning"
    assert "values are clipped at 1" in finding.cause.render()
    assert finding.excerpt.startswith("torch.nn.utils.clip_grad_value_")
    assert (
        codes(replace(clipped(2 * noise[:40]), steps=_without_norm(clipped(2 * noise[:40])))) == []
    )


def _without_norm(made: RowBatch) -> np.ndarray:
    steps = made.steps.copy()
    steps["clip_coefficient"], steps["clip_norm"] = np.nan, np.nan
    return steps
