"""Draw a series as one line of small bars."""

from __future__ import annotations

import numpy as np

from seismograd.analysis.medians import median
from seismograd.schema import FloatArray

_BARS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "!"
_GAP = " "
_LARGE = 1e300


def sparkline(values: FloatArray, seen: FloatArray, width: int = 60) -> str:
    """Return the series in at most `width` characters.

    A character that stands for several values shows the one farthest from the median, so that a
    spike is never averaged away, and `!` when any of them is not finite; a blank has no
    measurement.

    Args:
        values: the series  # (T,)
        seen: true where it was measured  # (T,)
    """
    known = np.isfinite(values) & (seen > 0)
    # a sum or a difference may not overflow
    values = values / max(1.0, float(np.abs(values[known]).max(initial=0)) / _LARGE)
    finite = values[known]
    if len(finite) == 0:
        low, span, middle = 0.0, 0.0, 0.0
    else:
        low, middle = float(finite.min()), median(finite)
        span = float(finite.max()) - low
    cells = np.array_split(np.arange(len(values)), min(width, len(values))) if len(values) else []
    return "".join(_cell(values[cell][seen[cell] > 0], low, span, middle) for cell in cells)


def _cell(values: FloatArray, low: float, span: float, middle: float) -> str:
    if len(values) == 0:
        return _GAP
    if not np.isfinite(values).all():
        return _NOT_FINITE
    value = float(values[np.argmax(np.abs(values - middle))])
    return (
        _BARS[min(len(_BARS) - 1, int((value - low) / span * len(_BARS)))]
        if span > 0
        else _BARS[len(_BARS) // 2]
    )
