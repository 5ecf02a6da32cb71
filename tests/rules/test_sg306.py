from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg306_step_without_unscale import StepWithoutUnscale
from seismograd.schema import EventFlag, EventKind, RowBatch, StepFlag
from tests.rules.cutting import codes, cut, result, row_by_row
from tests.rules.stream import at, stream

scales = st.integers(1, 24).map(lambda power: 2.0**power)


def marked(made: RowBatch, step_flags: int = 0, row_flags: int = 0) -> RowBatch:
    events, steps = made.events.copy(), made.steps.copy()
    events["flags"][events["kind"] == EventKind.STEP] |= np.uint16(step_flags)
    steps["flags"] |= np.uint32(row_flags)
    return replace(made, events=events, steps=steps)


@given(scales, st.integers(1, 20))
def test_a_step_on_scaled_gradients_is_found_at_once(scale: float, num_steps: int) -> None:
    made = stream("z b s " * num_steps, scale=scale)
    (finding,), _ = result([made])
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG306",
        "error",
        0,
        num_steps - 1,
    )
    assert (finding.where, finding.evidence[0].value) == (at("s"), scale)
    assert codes(cut(made, [1])[0]) == ["SG306"]
    assert result(row_by_row([made]), rules=(StepWithoutUnscale,)) == result(
        [made], rules=(StepWithoutUnscale,)
    )


def test_it_says_what_to_call_instead() -> None:
    (finding,), _ = result([stream("z b s", scale=1024.0)])
    assert "still multiplied by the loss scale, 1024" in finding.cause.render()
    assert finding.excerpt.splitlines() == ["scaler.step(optimizer)", "scaler.update()"]


def test_it_explains_the_clip_before_it() -> None:
    (finding,), _ = result([stream("z b c s " * 5, scale=1024.0)])
    assert (finding.code, finding.related) == ("SG306", ("SG305",))


@pytest.mark.parametrize(
    ("step_flags", "row_flags"),
    [(EventFlag.FUSED, 0), (0, StepFlag.SKIPPED), (0, StepFlag.CHANGED)],
    ids=["fused", "skipped", "divided by hand"],
)
def test_what_divides_or_leaves_out_by_itself_is_healthy(step_flags: int, row_flags: int) -> None:
    assert codes(marked(stream("z b s " * 10, scale=1024.0), step_flags, row_flags)) == []


@given(st.integers(1, 30))
def test_without_a_scale_nothing_is_found(num_steps: int) -> None:
    assert codes(stream("z b s " * num_steps)) == []
