"""Count the scalars that are exactly zero."""

from __future__ import annotations

from torch import Tensor

from seismograd.measure.statistics.formula import Formula, count_nonzero, total


def count_zeros(scalars: Tensor) -> Tensor:
    """Return how many scalars are 0 or -0  # (k, N) -> (k,)."""
    return scalars.shape[1] - count_nonzero(scalars)


ZEROS = Formula("zeros", count_zeros, join=total)
