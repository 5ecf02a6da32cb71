"""Find gradients at the lower end of the range of float16, where they become zero.

Half precision has no numbers between zero and its smallest one, so the histogram of a gradient that
is computed in it ends there.
"""

from __future__ import annotations

import math

import numpy as np

from seismograd.schema import (
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    AnyArray,
    BoolArray,
    FloatArray,
)

SMALLEST_EXPONENT = -24  # 2^-24 is the smallest number above zero
_NUM_BINS = 3  # at the lower end


def shares_at_smallest(
    histograms: AnyArray, scale: float, max_below: float
) -> tuple[FloatArray, BoolArray]:
    """Return for each histogram  # (n, W)  the share of scalars in its lowest bins, and whether
    there are any scalars at all. `scale` is that of the loss. The share is 0 where more than
    `max_below` of them lie below the range, so that the gradient is of another dtype.
    """
    count = np.asarray(histograms, np.float64)
    exponent = SMALLEST_EXPONENT - math.log2(scale if scale > 0 and math.isfinite(scale) else 1.0)
    lowest = math.floor((exponent - HISTOGRAM_FIRST_EXPONENT) / HISTOGRAM_EXPONENTS_PER_BIN)
    edge = min(max(lowest, 0), count.shape[1] - _NUM_BINS)
    total, is_known = count.sum(axis=1), count.sum(axis=1) > 0
    is_in_range = is_known & (count[:, :edge].sum(axis=1) <= max_below * total)
    at_edge = count[:, edge : edge + _NUM_BINS].sum(axis=1)
    return np.where(is_in_range, at_edge / np.maximum(total, 1), 0), is_known
