from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd.record.strict_json import _plain, dumps

numbers = st.integers(-9, 9) | st.floats() | st.floats().map(np.float64) | st.just(np.int64(3))


@given(
    st.recursive(
        numbers | st.none() | st.booleans() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_json_is_the_same_whether_its_values_had_to_be_made_plain_or_not(value: object) -> None:
    assert dumps(value) == dumps(_plain(value))
