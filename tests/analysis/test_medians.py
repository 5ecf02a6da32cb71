from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from seismograd.analysis.medians import FEW, median, medians, moving_medians

NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e308, -1e308]) | st.floats(-1e6, 1e6)


@given(
    arrays(
        np.float64, array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=11), elements=NUMBERS
    ),
    st.data(),
)
def test_each_is_the_median_of_the_finite_numbers_along_the_axis(
    values: np.ndarray, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, values.ndim - 1))
    with np.errstate(all="ignore"):
        wanted = (
            [median(row) for row in np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])]
            if values.size
            else []
        )
    found = medians(values, np.isfinite(values), axis)
    assert found.shape == values.shape[:axis] + values.shape[axis + 1 :]
    np.testing.assert_array_equal(found.reshape(-1)[: len(wanted)], wanted)


@given(st.lists(NUMBERS, max_size=FEW + 2))
def test_that_of_a_few_in_a_list_is_that_of_the_same_in_an_array(values: list[float]) -> None:
    found = median(values)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, median(np.array(values)))
    assert type(found) is float


@given(st.lists(st.floats(-1e308, 1e308), max_size=20), st.integers(1, 10))
def test_a_moving_median_is_that_of_as_many_numbers_in_a_row(values: list[float], num: int) -> None:
    found = moving_medians(np.array(values), num)
    with np.errstate(all="ignore"):
        wanted = [median(values[at : at + num]) for at in range(len(values) - num + 1)]
    assert found.tolist() == wanted
