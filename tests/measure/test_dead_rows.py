"""A row is dead when nothing but zero came to it since the last sample."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from seismograd.measure.reference import ReferenceBackend

NUM_ROWS = 4
iterations = st.lists(
    st.tuples(
        st.dictionaries(
            st.integers(0, 2),
            st.lists(
                st.sampled_from([0.0, -0.0, 1.0, math.nan, 5e-324]),
                min_size=NUM_ROWS,
                max_size=NUM_ROWS,
            ),
        ),
        st.booleans(),
    ),
    max_size=8,
    # per iteration: what each parameter with a gradient has in the first column of its rows, and
    # whether it is a sample
)


@given(iterations)
def test_rows_are_remembered_by_parameter_from_sample_to_sample(
    iterations: list[tuple[dict[int, list[float]], bool]],
) -> None:
    backend = ReferenceBackend()
    alive = {key: [False] * NUM_ROWS for key in range(3)}
    for columns, sample in iterations:
        gradients = []
        for key, column in columns.items():
            gradient = torch.zeros(NUM_ROWS, 2, dtype=torch.float64)
            gradient[:, 0] = torch.tensor(column, dtype=torch.float64)
            gradients.append(gradient)
            alive[key] = [before or x != 0 for before, x in zip(alive[key], column, strict=True)]
        measured = backend.measure(gradients, gradients, list(columns), [], sample)
        if sample:
            assert measured.samples["dead_rows"].tolist() == [
                alive[key].count(False) for key in columns
            ]
            alive.update({key: [False] * NUM_ROWS for key in columns})


def test_a_parameter_whose_shape_changed_begins_anew() -> None:
    backend = ReferenceBackend()
    backend.measure([torch.ones(4, 2)], [torch.ones(4, 2)], [0], [], sample=False)
    assert (
        backend.measure([torch.zeros(3, 2)], [torch.ones(3, 2)], [0], [], sample=True).samples[
            "dead_rows"
        ][0]
        == 3
    )


def test_vectors_have_no_rows() -> None:
    gradients = [
        torch.zeros(3),
        torch.zeros(()),
        torch.zeros(0, 3),
        torch.zeros(3, 0),
        torch.zeros(3, dtype=torch.complex64),
    ]
    assert (
        not ReferenceBackend()
        .measure(gradients, gradients, range(5), [], sample=True)
        .samples["dead_rows"]
        .any()
    )
