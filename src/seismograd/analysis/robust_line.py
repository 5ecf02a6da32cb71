"""Fit a robust line through each row of numbers.

Shapes: R rows, L points of each.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from seismograd.analysis.medians import row_medians_in_place
from seismograd.schema import FloatArray, IntArray

# layers that a line is fitted through; of more layers, this many at equal distances
MAX_FITTED = 48


def fit_line(height: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return slope and R² of a robust line through each row  # (R, L) -> (R,), (R,).

    The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968), so
    that a third of them may lie anywhere.
    """
    position, first, second, distance = _pairs(height.shape[1])
    height = height.take(position, axis=1)
    slopes = height.take(second, axis=1)
    slopes -= height.take(first, axis=1)
    slopes /= distance
    slope = row_medians_in_place(slopes)
    rest = height - slope[:, None] * position
    rest -= row_medians_in_place(rest.copy())[:, None]
    spread = height - (row_sums(height) / len(position))[:, None]
    share = row_sums(rest * rest) / np.maximum(row_sums(spread * spread), np.finfo(np.float64).tiny)
    return slope, np.maximum(1 - share, 0)


def row_sums(values: FloatArray) -> FloatArray:
    """Return the sum of each row, always added in the same order: that of `np.sum` depends on how
    many rows there are.
    """
    return np.add.accumulate(values, axis=1)[:, -1]


@lru_cache(maxsize=64)
def _pairs(num_layers: int) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Return the layers that a line is fitted through, all pairs of their positions, and the
    distance of each pair.
    """
    fitted = min(num_layers, MAX_FITTED)
    position = np.array(
        [layer * (num_layers - 1) // (fitted - 1) for layer in range(fitted)], np.int64
    )
    first, second = np.triu_indices(fitted, 1)
    return (
        position,
        first.astype(np.int64),
        second.astype(np.int64),
        np.asarray(position[second] - position[first], np.float64),
    )
