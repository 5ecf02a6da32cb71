from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg309_uneven_accumulation import UnevenAccumulation
from seismograd.schema import EventFlag, Finding, RowBatch
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.rules.stream import at, stream


def accumulated(
    counts: list[float], windows: int = 8, total: float | None = None, **options: object
) -> RowBatch:
    """Mean losses over these counts in each window."""
    num = len(counts)
    return stream(
        ("b " * num + "s z ") * windows,
        count=counts * windows,
        total=1 / num if total is None else total,
        **options,
    )  # type: ignore[arg-type]


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made])
    return finding


@given(st.permutations([8.0, 20.0, 240.0, 48.0]), st.integers(3, 8))
def test_a_mean_of_unequal_means_is_found_in_the_third_window(
    counts: list[float], windows: int
) -> None:
    made = accumulated(counts, windows)
    finding = only(made)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG309",
        "warning",
        0,
        windows - 1,
    )
    assert (finding.where, finding.evidence[0].value, finding.evidence[0].limit) == (
        at("b"),
        240,
        8,
    )
    assert "weighs 30 times" in finding.cause.render()
    assert codes(cut(made, [3])[0]) == ["SG309"]
    assert result(row_by_row([made]), rules=(UnevenAccumulation,)) == result(
        [made], rules=(UnevenAccumulation,)
    )


@given(st.lists(st.floats(100, 190), min_size=2, max_size=6))
def test_nearly_equal_micro_batches_are_healthy(counts: list[float]) -> None:
    assert codes(accumulated(counts)) == []


@given(st.lists(st.floats(4, 400), min_size=2, max_size=6))
def test_dividing_by_the_tokens_of_the_window_is_healthy(counts: list[float]) -> None:
    totals = [count / sum(counts) for count in counts] * 8
    assert codes(accumulated(counts, total=totals)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"total": 1.0, "backward_flags": EventFlag.SUMMED}, {"backward_flags": EventFlag.SHARED}],
)
def test_sums_and_several_losses_are_healthy(options: dict[str, object]) -> None:
    assert "SG309" not in codes(accumulated([8.0, 20.0, 240.0], **options))  # type: ignore[arg-type]


def test_a_smaller_last_batch_is_healthy() -> None:
    assert codes(accumulated([32.0, 32.0, 32.0, 5.0])) == []


def test_means_that_are_not_divided_either_are_the_other_fault_first() -> None:
    finding = only(accumulated([8.0, 20.0, 240.0], total=1.0))
    assert finding.code == "SG307"


def test_losses_that_do_not_show_their_counts_are_not_evaluated() -> None:
    reason = status(accumulated([float("nan")] * 3), "SG309").reason.render()
    assert reason == "the graphs of 8 windows do not show over how many samples a loss is a mean"
