"""Count the scalars that are not finite."""

from __future__ import annotations

from torch import Tensor

from seismograd.measure.statistics.formula import Formula, count_nonzero, total


def count_nonfinite(scalars: Tensor) -> Tensor:
    """Return how many scalars are NaN or infinite  # (k, N) -> (k,)."""
    # x - x is 0 for a finite x and NaN, which is not 0, for any other: cheaper than isfinite, which
    # is four operations.
    return count_nonzero(scalars - scalars)


NONFINITE = Formula("nonfinite", count_nonfinite, join=total)
