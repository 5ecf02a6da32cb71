"""How many scalars are exactly zero."""

from __future__ import annotations

from torch import Tensor

from seismograd.measure.statistics.formula import Formula, count_nonzero, total


def count_zeros(scalars: Tensor) -> Tensor:
    """Scalars that are 0 or -0  # (k, N) -> (k,)."""
    return scalars.shape[1] - count_nonzero(scalars)


ZEROS = Formula("zeros", count_zeros, join=total)
