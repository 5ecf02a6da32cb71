"""Count how many scalars there are of each size."""

from __future__ import annotations

import torch
from torch import Tensor

from seismograd.measure.statistics.formula import Formula, total
from seismograd.measure.statistics.zeros import count_zeros
from seismograd.schema import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
)


def count_exponents(scalars: Tensor) -> Tensor:
    """Return the histogram of binary exponents as `seismograd.schema` defines it  # (k, N) -> (k,
    W).

    Counted from the exponent bits themselves, so exact at the edges; a denormal, whose bits say
    zero, belongs to the lowest bin anyway.
    """
    if scalars.dtype is torch.float64:
        field, num_fields = (scalars.view(torch.int64) >> 52) & 0x7FF, 0x800
    else:
        field, num_fields = (scalars.float().view(torch.int32) >> 23) & 0xFF, 0x100
    num_tensors = scalars.shape[0]
    row = torch.arange(num_tensors, dtype=field.dtype, device=field.device).unsqueeze(1)
    counts = torch.bincount(
        (field + row * num_fields).reshape(-1), minlength=num_tensors * num_fields
    ).view(num_tensors, num_fields)
    # the field of 2^e is e plus half the fields less one
    first = num_fields // 2 - 1 + HISTOGRAM_FIRST_EXPONENT
    end = first + HISTOGRAM_BINS * HISTOGRAM_EXPONENTS_PER_BIN
    bins = (
        counts[:, first:end]
        .reshape(num_tensors, HISTOGRAM_BINS, HISTOGRAM_EXPONENTS_PER_BIN)
        .sum(2)
    )
    bins[:, 0] += counts[:, :first].sum(1) - count_zeros(scalars)
    bins[:, -1] += counts[:, end:-1].sum(1)  # the last field is that of NaN and infinities
    return bins


EXPONENTS = Formula("exponents", count_exponents, join=total)
