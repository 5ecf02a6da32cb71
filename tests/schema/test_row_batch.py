"""A batch in pieces, and put together again."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd.schema import STATISTICS, STEP_DTYPE, EventKind, RowBatch, concatenate, recorded
from tests import synthetic


def batch(num_rows: int, events_of: list[int]) -> RowBatch:
    """Every third row is sampled; row r has `events_of[r]` events."""
    return synthetic.block(
        np.arange(1.0, 2 * num_rows + 1).reshape(num_rows, 2),
        first_iteration=7,
        sample_rows=range(0, num_rows, 3),
        elements=np.arange(float(num_rows)),
        events=[
            synthetic.event(EventKind.BACKWARD, 7 + row, value=number)
            for row in range(num_rows)
            for number in range(events_of[row])
        ],
    )


cut_batches = st.integers(1, 12).flatmap(
    lambda num: st.tuples(
        st.just(num),
        st.lists(st.integers(0, 3), min_size=num, max_size=num),
        st.sets(st.integers(1, num)),
    )
)


@given(cut_batches)
def test_the_rows_of_a_batch_put_together_are_the_batch(
    given_: tuple[int, list[int], set[int]],
) -> None:
    num, events_of, cuts = given_
    whole = batch(num, events_of)
    pieces = [whole.rows(*edges) for edges in pairwise(sorted({0, num, *cuts}))]
    assert_same(concatenate(pieces), whole)


@given(cut_batches, st.integers(1, 5))
def test_split_yields_the_same_rows(given_: tuple[int, list[int], set[int]], size: int) -> None:
    num, events_of, _ = given_
    whole = batch(num, events_of)
    for number, piece in enumerate(whole.split(size)):
        start = number * size
        assert_same(piece, whole.rows(start, min(start + size, num)))
        assert len(piece.events) == sum(events_of[start : start + size])


def test_rows_without_samples_have_each_sampled_statistic_zero_times() -> None:
    piece = batch(3, [1, 1, 1]).rows(1, 3)
    assert len(piece.sample_rows) == 0
    sampled = {each.name for each in STATISTICS if each.sampled}
    assert {name: len(values) for name, values in piece.samples.items()} == dict.fromkeys(
        sampled, 0
    )


def test_what_was_put_together_has_the_dtypes_of_the_record_and_memory_of_its_own() -> None:
    given_ = batch(2, [1, 1])
    wide = {name: np.full((2, 2), 1e300) for name in given_.values}
    steps = np.array(given_.steps, STEP_DTYPE)
    made = concatenate([replace(given_, values=wide, steps=steps)])
    for statistic in STATISTICS:
        if not statistic.sampled:
            expected = recorded(wide[statistic.name], statistic.dtype)
            np.testing.assert_array_equal(made.values[statistic.name], expected)
            assert made.values[statistic.name].dtype == statistic.dtype
            assert not np.shares_memory(made.values[statistic.name], wide[statistic.name])
    assert not np.shares_memory(made.steps, steps)


def assert_same(one: RowBatch, other: RowBatch) -> None:
    for name in (field.name for field in fields(RowBatch)):
        value, expected = getattr(one, name), getattr(other, name)
        if name in ("values", "samples"):
            assert value.keys() == expected.keys()
            for key in expected:
                np.testing.assert_array_equal(value[key], expected[key], err_msg=key)
        elif name in ("steps", "events", "ranks", "pairs"):
            # As text: NaN is equal to NaN there.
            assert repr(value.tolist()) == repr(expected.tolist()), name
        else:
            np.testing.assert_array_equal(value, expected, err_msg=name)
