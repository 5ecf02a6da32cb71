"""Compute medians of known values.

`np.median` imports `numpy.ma`, which takes 20 ms at the first step, and costs several times as much
for a few numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seismograd.analysis.block_rows import BoolArray
from seismograd.schema import FloatArray

FEW = 24  # numbers that are sorted in less time than NumPy takes to begin


def median(values: FloatArray | Sequence[float]) -> float:
    """Return the median of the finite values, NaN without any."""
    if isinstance(values, list) and len(values) <= FEW:
        return _median_of_few(values)
    given = np.asarray(values, np.float64)
    known = np.sort(given[np.isfinite(given)])
    half = len(known) // 2
    if not len(known):
        return math.nan
    return (
        float(known[half]) if len(known) % 2 else (float(known[half - 1]) + float(known[half])) / 2
    )


def _median_of_few(values: list[float]) -> float:
    known = sorted([float(value) for value in values if math.isfinite(value)])
    half = len(known) // 2
    if not known:
        return math.nan
    return known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2


def moving_medians(values: FloatArray, num: int) -> FloatArray:
    """Return the median of every `num` finite values in a row  # (n,) -> (n - num + 1,)."""
    if len(values) < num:
        return np.zeros(0)
    low, high = (num - 1) // 2, num // 2
    starts = np.arange(len(values) - num + 1)[:, None]
    parted = np.partition(values[starts + np.arange(num)], (low, high), axis=1)
    with np.errstate(over="ignore"):
        return parted[:, low] if low == high else (parted[:, low] + parted[:, high]) / 2


def column_medians(values: FloatArray) -> FloatArray:
    """Return the median of the finite values in each column, NaN without any  # (n, M) -> (M,)."""
    return medians(values, np.isfinite(values), axis=0)


def medians(values: FloatArray, known: BoolArray, axis: int) -> FloatArray:
    """Return the median of the known values along an axis, NaN where there is none."""
    length = values.shape[axis]
    num = known.sum(axis=axis, keepdims=True)
    if length == 0 or not num.size:
        return np.full(values.shape[:axis] + values.shape[axis + 1 :], np.nan)
    if num.min() == length:
        ordered = np.sort(values, axis=axis)
        low, high = (
            np.take(ordered, position, axis=axis) for position in ((length - 1) // 2, length // 2)
        )
        odd = np.bool_(length % 2)
    else:
        ordered = np.sort(np.where(known, values, np.nan), axis=axis)  # NaN comes last
        low, high = (
            np.take_along_axis(ordered, position, axis=axis).squeeze(axis)
            for position in (np.maximum((num - 1) // 2, 0), np.minimum(num // 2, length - 1))
        )
        odd = (num % 2 == 1).squeeze(axis)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(odd, low, (low + high) / 2)


def row_medians_in_place(values: FloatArray) -> FloatArray:
    """Return the median of each row of finite values, destroying its order  # (n, M) -> (n,)."""
    num = values.shape[1]
    low, high = (num - 1) // 2, num // 2
    values.partition((low, high), axis=1)
    return (values[:, low] + values[:, high]) / 2
