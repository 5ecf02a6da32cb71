from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg305_clip_before_unscale import ClipBeforeUnscale
from seismograd.schema import EventKind
from tests.rules.cutting import codes, cut, result, row_by_row
from tests.rules.stream import at, stream

scales = st.integers(1, 24).map(lambda power: 2.0**power)


def scaled(loop: str, limit: float = 1.0, scale: float = 65536.0, num_steps: int = 10):  # type: ignore[no-untyped-def]
    """A loop in which the scaler makes the step, and so has divided by then."""
    made = stream(loop * num_steps, scale=scale, limit=limit)
    events = made.events.copy()
    events["scale"][events["kind"] == EventKind.STEP] = 1
    return replace(made, events=events)


@given(scales, st.sampled_from([0.1, 1.0, 5.0]))
def test_a_clip_of_scaled_gradients_is_found_in_the_second_step_whatever_the_scale(
    scale: float, limit: float
) -> None:
    made = scaled("z b c s ", limit, scale)
    (finding,), _ = result([made])
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG305",
        "error",
        0,
        9,
    )
    assert finding.where == at("c")
    assert [(each.statistic, each.value) for each in finding.evidence] == [
        ("scale", scale),
        ("clip_norm", 0.5),
    ]
    assert codes(cut(made, [2])[0]) == ["SG305"]
    assert result(row_by_row([made]), rules=(ClipBeforeUnscale,)) == result(
        [made], rules=(ClipBeforeUnscale,)
    )


def test_it_says_what_to_insert() -> None:
    (finding,), _ = result([scaled("z b c s ")])
    assert finding.excerpt.splitlines()[0] == "scaler.unscale_(optimizer)"
    assert "a norm of 3.28e+04, while the true norm is 0.5" in finding.cause.render()


@given(scales.filter(lambda scale: scale >= 128), st.sampled_from([0.1, 1.0, 5.0]))
def test_a_limit_that_is_scaled_as_well_is_healthy(scale: float, limit: float) -> None:
    assert codes(scaled("z b c s ", limit * scale, scale)) == []


@pytest.mark.parametrize("loop", ["z b s ", "z b c s "])
def test_without_a_scale_nothing_is_found(loop: str) -> None:
    assert codes(scaled(loop, scale=1.0)) == []


def test_measuring_the_norm_of_scaled_gradients_is_healthy() -> None:
    assert codes(scaled("z b c s ", float("inf"))) == []
