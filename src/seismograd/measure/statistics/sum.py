"""The sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seismograd.measure.statistics.formula import Formula
from seismograd.measure.transfer import wide_dtype

# The largest possible number of float64, scaled by it, does not overflow. A sum of finite numbers
# stays finite, so that adding it to an infinity of another chunk does not make NaN.
SCALE = 2.0**-60
LARGEST = torch.finfo(torch.float64).max


def signed_sum(scalars: Tensor) -> Tensor:
    """Return the sum in double precision  # (k, N) -> (k,): infinite or NaN where a scalar is,
    whatever overflows on the way.
    """
    added = scalars.sum(1, dtype=wide_dtype(scalars.device))
    if scalars.dtype is not torch.float64:
        return added  # narrower numbers cannot overflow a float64
    is_nan, has_plus, has_minus = (
        scalars.isnan().any(1),
        scalars.amax(1) == math.inf,
        scalars.amin(1) == -math.inf,
    )
    scaled = (scalars * SCALE).sum(1).clamp(-LARGEST * SCALE, LARGEST * SCALE) / SCALE
    finite = torch.where(added.isfinite(), added, scaled)
    infinite = torch.where(
        has_plus & has_minus, math.nan, torch.where(has_plus, math.inf, -math.inf).to(added.dtype)
    )
    return torch.where(is_nan, math.nan, torch.where(has_plus | has_minus, infinite, finite))


GRAD_SUM = Formula("grad_sum", signed_sum, join=signed_sum)
