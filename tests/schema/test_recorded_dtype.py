"""Numbers in the dtype of the record, of several parts and with little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.schema import recorded, recorded_dtype
from seismograd.schema.recorded_dtype import joined

ODD = [np.nan, np.inf, -np.inf, 0.0, -1.0, 0.5, 1.5, 2.0**32 - 1, 2.0**32, 1e-300, 1e300]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.sampled_from(["<f8", "<f4", "<u4", "<u1"]),
    st.sampled_from([1, 100, 2**18]),
    st.integers(0, 2**32 - 1),
)
def test_parts_are_joined_as_they_are_recorded_at_once(
    lengths: list[int], dtype: str, piece_bytes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    parts = [random.choice(ODD, (length, 3)) for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded_dtype, "_PIECE_BYTES", piece_bytes)
        whole = joined(parts, dtype)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(whole, recorded(np.concatenate(parts), dtype))
    assert not any(np.shares_memory(whole, part) for part in parts)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<u4"])
def test_joining_takes_little_more_memory_than_its_result(dtype: str) -> None:
    parts = [np.ones((100, 64)) for _ in range(100)]
    parts.append(np.ones((10_000, 64)))
    tracemalloc.start()
    whole = joined(parts, dtype)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < whole.nbytes + 2**20
