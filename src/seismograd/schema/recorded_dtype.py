"""Convert a number to the dtype it is recorded in."""

from __future__ import annotations

import numpy as np

from seismograd.schema.arrays import AnyArray

# by its bits: np.finfo warns where denormals are flushed
_FLOAT32_SMALLEST = np.array(1, "<u4").view("<f4")[()]


def recorded(values: AnyArray, dtype: str) -> AnyArray:
    """Return the values in this dtype, preserving their kind: finite stays finite, nonzero stays
    nonzero.

    A finite float that float32 cannot hold becomes its largest or smallest finite nonzero value of
    the same sign. Unsigned integers saturate at both ends; NaN, a count that was not measured,
    becomes 0 there.
    """
    target = np.dtype(dtype)
    if values.dtype == target:
        return values
    if target.kind == "u":
        return _as_unsigned(values, target)
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(target)
    if target.itemsize == 4:
        infinite, zero = np.isinf(narrow), narrow == 0
        if infinite.any():
            too_large = infinite & np.isfinite(values)
            narrow[too_large] = np.copysign(np.finfo(np.float32).max, values[too_large])
        if zero.any():
            too_small = zero & (values != 0)
            narrow[too_small] = np.copysign(_FLOAT32_SMALLEST, values[too_small])
    return narrow


def _as_unsigned(values: AnyArray, target: np.dtype[np.generic]) -> AnyArray:
    if values.dtype.kind == "f":
        # float32 has no 2^32 - 1
        values = np.rint(np.where(np.isnan(values), 0, values).astype(np.float64))
    return np.clip(values, 0, np.iinfo(target.str).max).astype(target)
