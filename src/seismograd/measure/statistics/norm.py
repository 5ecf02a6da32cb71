"""The L2 norm, of a gradient and of weights."""

from __future__ import annotations

import torch
from torch import Tensor

from seismograd.measure.statistics.formula import Formula
from seismograd.measure.statistics.largest import largest
from seismograd.measure.transfer import wide_dtype

# Scales of 2^-1022 to 2^1021 are normal numbers, and bring any float64 to where its square neither
# overflows nor underflows.
LEAST_EXPONENT, GREATEST_EXPONENT = -1021, 1022


def norm(scalars: Tensor) -> Tensor:
    """Return the L2 norm in double precision  # (k, N) -> (k,).

    Squares of every narrower dtype fit into float64; float64 itself is scaled by the largest |g|
    first, as in BLAS's dnrm2 (Blue, A Portable Fortran Program to Find the Euclidean Norm of a
    Vector, 1978).
    """
    dtype = wide_dtype(scalars.device)
    if scalars.dtype is not torch.float64:
        # One temporary and not two, whose memory the allocator would return to the system each
        # time.
        return scalars.to(dtype, copy=True).square_().sum(1).sqrt()
    exponent = torch.frexp(largest(scalars)).exponent.clamp(LEAST_EXPONENT, GREATEST_EXPONENT)
    scale = torch.exp2(-exponent.to(dtype))
    return (scalars * scale.unsqueeze(1)).square_().sum(1).sqrt() / scale


GRAD_NORM = Formula("grad_norm", norm, join=norm)
WEIGHT_NORM = Formula("weight_norm", norm, join=norm)
