"""Take the sketches of gradients out of rows: in the record they are among what is sampled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seismograd.schema import RowBatch, SampleBatch, SampleKind, SampleSubject, State


def sketch_samples(batch: RowBatch) -> Iterator[SampleBatch]:
    """Yield the sketches of each row that has some, with those parameters that were sketched: a
    gradient that is not finite has numbers that are not, either.
    """
    for row, sketches in batch.sketches.items():
        known = np.isfinite(sketches).all(1) | (batch.state[row] == State.NONFINITE)
        columns = np.flatnonzero(known & (batch.state[row] >= State.ZERO)).tolist()
        if columns:
            yield SampleBatch(
                SampleKind.GRADIENT_SKETCH,
                int(batch.steps["iteration"][row]),
                [SampleSubject(batch.parameters[column].name) for column in columns],
                sketches[columns],
            )
