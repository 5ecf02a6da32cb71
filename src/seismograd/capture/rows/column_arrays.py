"""The arrays that hold the columns of the record, as they are before anything is in them, and of
rows that were measured alike.

Shapes: B iterations, S of them sampled, P parameters, E elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seismograd.capture.loop.iteration import GradientReading
from seismograd.schema import (
    STATISTICS,
    AnyArray,
    FloatArray,
    State,
    StateArray,
    StatisticKind,
)

# NumPy loses what is raised while it looks into an enum
NOT_MEASURED, FINITE = int(State.NOT_MEASURED), int(State.FINITE)
ZERO, NONFINITE = int(State.ZERO), int(State.NONFINITE)


@dataclass(frozen=True, slots=True)
class RowColumns:
    """What was read of the gradients, in the columns of the record."""

    state: StateArray  # (B, P)
    values: dict[str, FloatArray]  # (B, P) each
    sample_rows: list[int]  # (S,)
    samples: Mapping[str, AnyArray]  # (S, P) or (S, P, W)
    elements: FloatArray  # (B, E)
    sketches: Mapping[int, FloatArray]  # by row  # (P, SKETCH_WIDTH)


@lru_cache(maxsize=8)
def blank_values(num_rows: int, num_parameters: int) -> dict[str, FloatArray]:
    """Return what is recorded of every iteration where nothing was measured  # (B, P) each. Nobody
    may write into it.
    """
    shared: dict[str, FloatArray] = {}
    for statistic in STATISTICS:
        if not statistic.sampled:
            shape = (num_parameters,) if statistic.width == 1 else (num_parameters, statistic.width)
            nothing = np.full(shape, 0.0 if statistic.kind is StatisticKind.FLAG else np.nan)
            shared[statistic.name] = np.broadcast_to(nothing, (num_rows, *shape))
    return shared


def rows_stacked(rows: Sequence[FloatArray]) -> FloatArray:
    """Return arrays of several rows as one; that of a single row is not copied."""
    return rows[0][None] if len(rows) == 1 else np.array(rows)


def states_of_rows(
    readings: Sequence[GradientReading], values: Mapping[str, FloatArray]
) -> StateArray:
    """Return the states of readings of the same gradients, whose statistics these are  # (B, n)."""
    for reading in readings:
        if reading.present is not None:
            return np.array([reading.state for reading in readings])
    # of all rows at once, what `states` says of one whose gradients all exist
    nonfinite, are_zero = values["nonfinite"], values["zeros"] == readings[0].numels
    found = np.full(nonfinite.shape, FINITE, np.uint8)
    # What every step of a healthy training is: a NaN among the counts, of what was not measured,
    # is true, too.
    if nonfinite.any():
        found[are_zero] = ZERO
        found[nonfinite > 0] = NONFINITE
        found[np.isnan(nonfinite)] = NOT_MEASURED
    elif are_zero.any():
        found[are_zero] = ZERO
    return found
