"""What watching cost is told from what was measured, and not told where nothing was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seismograd.i18n import use_language
from seismograd.schema import STEP_DTYPE
from seismograd.views.watching_cost import LeftOut, seconds, watching_cost


def run_of(times_s: list[float], overheads_s: list[float]) -> Any:
    steps = np.zeros(len(times_s), STEP_DTYPE)
    steps["time_s"], steps["overhead_s"] = times_s, overheads_s
    return SimpleNamespace(steps=steps)


def test_the_share_is_that_of_the_time_between_the_first_step_and_the_last() -> None:
    with use_language("en"):
        said = watching_cost(run_of([3.0, 5.0, 13.0], [0.5, 0.05, 0.15]))
    assert said == (
        "Overhead: 0.1 s per step (2.0% of the 5 s that a step takes), plus 0.5 s at the start."
    )


def test_a_large_share_is_explained_by_the_length_of_the_step() -> None:
    with use_language("en"):
        said = watching_cost(run_of([3.0, 3.001, 3.002], [0.5, 0.00034, 0.00034]))
    assert said == (
        "Overhead: 0.34 ms per step (34.0% of the 1 ms that a step takes), plus 0.5 s at the "
        "start. The share is large because the step is short: it depends on the number of "
        "parameters, not on the batch, and in steps of 20 ms or more would be below 2%."
    )
    with use_language("en"):
        long = watching_cost(run_of([3.0, 3.1, 3.2], [0.5, 0.034, 0.034]), LeftOut(0.02, 0.02))
    assert long is not None
    assert long.endswith(
        "at the start. It depends on the number of parameters, not on the batch: in steps of 2 s "
        "or more it would be below 2%."
    )


def test_of_short_steps_it_says_what_options_would_leave() -> None:
    """Of two steps with 0.34 ms of overhead and 0.66 ms of their own."""
    run = run_of([3.0, 3.001, 3.002], [0.5, 0.00034, 0.00034])
    with use_language("en"):
        said = watching_cost(run, LeftOut(light_s=0.00036, every_s=0.00048))
    assert said is not None
    assert said.endswith(
        " would be below 2%. Without what --level light leaves out: 0.16 ms (19.5%). Without what "
        "--every 10 leaves out: 0.1 ms (13.2%)."
    )
    # nothing was measured of it, or more than there is
    with use_language("en"):
        assert watching_cost(run, LeftOut()) == watching_cost(run)
        assert watching_cost(run, LeftOut(1.0, 1.0)) == watching_cost(run)
    cheap = run_of([3.0, 3.001, 3.002], [0.5, 0.00001, 0.00001])
    assert watching_cost(cheap, LeftOut(0.00001, 0.00001)) == watching_cost(cheap)


@pytest.mark.parametrize(
    ("times_s", "overheads_s"),
    [([], []), ([1.0], [0.1]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 1.0], [0.1, 0.1])],
)
def test_nothing_is_told_where_nothing_was_measured(
    times_s: list[float], overheads_s: list[float]
) -> None:
    assert watching_cost(run_of(times_s, overheads_s)) is None


def test_times_are_told_in_readable_units() -> None:
    with use_language("en"):
        said = [seconds(time_s) for time_s in (0.00123, 0.0999, 0.123, 12.34, 599, 7200)]
    assert said == ["1.23 ms", "99.9 ms", "0.123 s", "12.3 s", "599 s", "120 min"]
