from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg307_accumulation_not_scaled import AccumulationNotScaled
from seismograd.schema import EventFlag, Finding
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.rules.stream import at, stream


def accumulated(num: int, windows: int = 12, **options: object):  # type: ignore[no-untyped-def]
    return stream(("b " * num + "s z ") * windows, **options)  # type: ignore[arg-type]


def only(*args: int, **options: object) -> Finding:
    (finding,), _ = result([accumulated(*args, **options)])
    return finding


@given(st.integers(2, 12), st.integers(3, 10), st.integers(2, 4096))
def test_means_that_are_not_divided_are_found_in_the_third_window(
    num: int, windows: int, count: int
) -> None:
    made = accumulated(num, windows, count=count)
    (finding,), _ = result([made])
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG307",
        "warning",
        0,
        windows - 1,
    )
    assert (finding.where, finding.excerpt) == (at("b"), f"(loss / {num}).backward()")
    assert codes(cut(made, [3])[0]) == ["SG307"]
    assert codes(cut(made, [2])[0]) == []
    assert result(row_by_row([made]), rules=(AccumulationNotScaled,)) == result(
        [made], rules=(AccumulationNotScaled,)
    )


@given(st.integers(2, 12), st.floats(0.8, 1.0))
def test_divided_losses_are_healthy(num: int, share: float) -> None:
    assert codes(accumulated(num, total=share / num)) == []


def test_sums_over_samples_are_healthy() -> None:
    assert codes(accumulated(4, total=32.0, backward_flags=EventFlag.SUMMED)) == []


def test_several_losses_of_one_forward_are_healthy() -> None:
    assert codes(accumulated(3, backward_flags=EventFlag.SHARED)) == []


def test_losses_at_different_lines_are_healthy() -> None:
    assert codes(stream("b B s z " * 12)) == []


def test_a_gradient_that_is_divided_by_hand_is_healthy() -> None:
    assert codes(accumulated(4, changed=1 / 4)) == []


@given(st.integers(0, 2**31), st.integers(2, 8))
def test_losses_that_keep_to_their_own_levels_are_tasks_and_healthy(seed: int, num: int) -> None:
    levels = 2.3 * 0.3 ** np.arange(num)
    losses = (
        levels[None] * (1 + 0.02 * np.random.default_rng(seed).normal(size=(20, num)))
    ).ravel()
    assert codes(accumulated(num, 20, loss=losses.tolist())) == []


@given(st.integers(0, 2**31), st.integers(2, 8))
def test_losses_that_scatter_are_micro_batches(seed: int, num: int) -> None:
    losses = (
        2.3 * 0.97 ** np.arange(20 * num) * np.random.default_rng(seed).uniform(0.8, 1.2, 20 * num)
    )
    assert codes(accumulated(num, 20, loss=losses.tolist())) == ["SG307"]


@pytest.mark.parametrize(
    ("count", "words"), [(float("nan"), "the graph does not show"), (1.0, "single samples")]
)
def test_what_is_not_sure_is_a_note(count: float, words: str) -> None:
    finding = only(4, count=count)
    assert finding.severity == "info"
    assert words in finding.cause.render()


def test_two_steps_are_not_evaluated() -> None:
    assert status(stream("z b s z b s"), "SG307").reason.render() == "needs 3 steps, has 2"
