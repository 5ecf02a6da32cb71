"""A number in the dtype of the record is of the kind that it was: finite, zero, non-finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seismograd.schema import STATISTICS, recorded

floats = arrays(np.float64, 6, elements=st.floats(width=64))
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_SMALLEST = 2.0**-149


def kinds(values: np.ndarray) -> list[str]:
    return ["zero" if v == 0 else "finite" if np.isfinite(v) else str(v) for v in values.tolist()]


@given(floats)
def test_float32_keeps_the_kind_and_the_sign(values: np.ndarray) -> None:
    narrow = recorded(values, "<f4")
    assert narrow.dtype == np.dtype("<f4")
    assert kinds(narrow) == kinds(values)
    assert np.signbit(narrow).tolist() == np.signbit(values).tolist()


@given(arrays(np.float64, 6, elements=st.floats(width=32)))
def test_what_float32_holds_is_exact(values: np.ndarray) -> None:
    np.testing.assert_array_equal(recorded(values, "<f4"), values)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1e39, FLOAT32_MAX),
        (-1e39, -FLOAT32_MAX),
        (3.4028235e38, FLOAT32_MAX),
        (1e-50, FLOAT32_SMALLEST),
        (-1e-300, -FLOAT32_SMALLEST),
    ],
)
def test_what_float32_cannot_hold_is_its_nearest_finite_and_not_zero(
    value: float, kept: float
) -> None:
    assert float(recorded(np.array([value]), "<f4")[0]) == kept


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint64])
def test_counts_saturate(dtype: type[np.generic]) -> None:
    values = np.array([0, 1, 255, 256, 2**32 - 1, 2**33]).astype(dtype)
    assert recorded(values, "<u4").tolist()[-1] == 2**32 - 1
    assert recorded(values, "<u4").tolist()[:4] == [0, 1, 255, 256]
    assert recorded(values, "<u1").tolist() == [0, 1, 255, 255, 255, 255]


def test_a_count_of_something_not_measured_is_zero_and_none_is_negative() -> None:
    assert recorded(np.array([np.nan, -3, np.inf]), "<u4").tolist() == [0, 0, 2**32 - 1]


@given(floats)
def test_recording_twice_is_recording_once(values: np.ndarray) -> None:
    for statistic in STATISTICS:
        once = recorded(values, statistic.dtype)
        assert recorded(once, statistic.dtype).tobytes() == once.tobytes()
