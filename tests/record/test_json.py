from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.record import strict_json
from seismograd.record.strict_json import _plain, dumps

numbers = st.integers(-9, 9) | st.floats() | st.floats().map(np.float64) | st.just(np.int64(3))
values = st.recursive(
    numbers | st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_json_is_the_same_whether_its_values_had_to_be_made_plain_or_not(value: object) -> None:
    assert dumps(value) == dumps(_plain(value))


@given(values, st.integers(1, 3))
def test_json_is_the_same_of_whatever_pieces_it_is_made(value: object, size: int) -> None:
    plain = _plain(value)
    try:
        expected = json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        expected = json.dumps(plain).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "_PIECE", size)
        assert dumps(plain) == expected


def test_json_of_many_parameters_takes_little_more_memory_than_its_text() -> None:
    value = {"parameters": [{"name": f"layers.{i}.weight", "shape": [i, i]} for i in range(9000)]}
    tracemalloc.start()
    text = dumps(value)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * len(text)
