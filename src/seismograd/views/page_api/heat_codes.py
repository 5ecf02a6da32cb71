"""Encode a cell of a heat map as an int16: thousandths of a decade, and four sentinels for anything
but a positive number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seismograd.record.pyramid.pyramid_view import PyramidView
from seismograd.schema import FloatArray, State

NONFINITE = 32767
NOT_MEASURED = 32766
ZERO = -32767
ABSENT = -32768
LIMIT = 32000  # thousandths of a decade; values beyond 1e±32 are drawn as that

SENTINELS = {
    "nonfinite": NONFINITE,
    "not_measured": NOT_MEASURED,
    "zero": ZERO,
    "absent": ABSENT,
    "limit": LIMIT,
}

Codes = npt.NDArray[np.int16]


def encode(view: PyramidView, which: str) -> Codes:
    """Return the codes of a view, parameter by parameter  # (P, C); `which` is "low", "high" or
    "last".

    A column with any non-finite step is NONFINITE, else the number, else what its steps have in
    common: ZERO before ABSENT before NOT_MEASURED.
    """
    values: FloatArray = {"low": view.low, "high": view.high, "last": view.last}[which].astype(
        np.float64
    )
    positive = values > 0
    codes = milli_decades(np.where(positive, values, 1))
    np.copyto(codes, NOT_MEASURED, where=~positive)
    np.copyto(codes, ABSENT, where=~positive & (view.counts[:, State.ABSENT] > 0))
    np.copyto(codes, ZERO, where=~positive & ((view.counts[:, State.ZERO] > 0) | (values == 0)))
    np.copyto(codes, NONFINITE, where=view.counts[:, State.NONFINITE] > 0)
    return np.ascontiguousarray(codes.T)


def milli_decades(values: FloatArray) -> Codes:
    """Return positive finite numbers as thousandths of a decade."""
    return np.clip(np.rint(1000 * np.log10(values)), -LIMIT, LIMIT).astype(np.int16)
