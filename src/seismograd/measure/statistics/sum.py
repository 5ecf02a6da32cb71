"""The sum."""

from __future__ import annotations

from torch import Tensor

from seismograd.measure.statistics.formula import Formula, total
from seismograd.measure.transfer import wide_dtype


def signed_sum(scalars: Tensor) -> Tensor:
    """The sum in double precision  # (k, N) -> (k,)."""
    return scalars.sum(1, dtype=wide_dtype(scalars.device))


GRAD_SUM = Formula("grad_sum", signed_sum, join=total)
