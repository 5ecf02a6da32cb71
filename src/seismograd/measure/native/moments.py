"""Measure gradients beside what an optimizer remembers of them, with the kernel: one call in place
of twenty operations of torch.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import DTYPE_CODES, address_of_function, load


class Moments(ctypes.Structure):
    """`Moments` of kernel/moments.hpp."""

    _fields_ = (
        ("gradients", ctypes.c_void_p),
        ("squares", ctypes.c_void_p),
        ("averages", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("bias_of_averages", ctypes.c_double),
        ("bias_of_squares", ctypes.c_double),
        ("eps", ctypes.c_double),
    )


class MomentRatios(NamedTuple):
    """The root mean squares of a gradient and of its average over the root of the average of its
    squares, where that is above zero, in so many `places`; the share of roots below eps.
    """

    gradient: float
    average: float
    places: float
    below_eps: float


def measure_rows(
    gradient: Tensor,
    squares: Tensor,
    averages: Tensor | None,
    *,
    turn: int,
    most: int,
    scale: float,
    biases: tuple[float, float],
    eps: float,
) -> MomentRatios | None:
    """Return what `measure` does of some rows of plain tensors of one shape, of at most so many
    scalars unless one row has more, others in each turn; `None` where one is something else.
    """
    library = load()
    if library is None:
        return None
    found = tensor_reads.moments(
        gradient,
        squares,
        averages,
        DTYPE_CODES,
        DTYPE_CODES[torch.float32],
        turn,
        most,
        address_of_function(library.seismograd_moments),
        scale,
        *biases,
        eps,
    )
    return None if found is None else _ratios(*found)


def takes(*tensors: Tensor | None) -> bool:
    """Return whether the kernel can read plain tensors as they lie in memory, if there is one."""
    return load() is not None and all(
        each is None
        or (
            each.is_cpu
            and each.dtype is torch.float32
            and each.is_contiguous()
            and not each.is_neg()
        )
        for each in tensors
    )


def measure(
    gradient: Tensor,
    squares: Tensor,
    averages: Tensor | None,
    *,
    scale: float,
    biases: tuple[float, float],
    eps: float,
) -> MomentRatios:
    """Return how a gradient stands to what is remembered of it: tensors that the kernel `takes`, of
    the same number of scalars. They are divided by `scale` and by the `biases` of averages and
    squares.
    """
    moments = Moments(
        gradient.data_ptr(),
        squares.data_ptr(),
        None if averages is None else averages.data_ptr(),
        gradient.numel(),
        scale,
        *biases,
        eps,
    )
    found = (ctypes.c_double * 4)()
    library: Any = load()
    library.seismograd_moments(ctypes.byref(moments), found)
    sums: list[float] = list(found)
    gradients, momenta, places, below = sums
    return _ratios(gradients, momenta, places, below, gradient.numel())


def _ratios(
    gradients: float, momenta: float, places: float, below: float, count: int
) -> MomentRatios:
    """Return what the sums of the kernel give."""
    if not places:
        return MomentRatios(math.nan, math.nan, 0.0, below / count)
    return MomentRatios(
        math.sqrt(gradients / places), math.sqrt(momenta / places), places, below / count
    )
