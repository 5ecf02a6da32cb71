"""The largest magnitude."""

from __future__ import annotations

import torch
from torch import Tensor

from seismograd.measure.statistics.formula import Formula


def largest(scalars: Tensor) -> Tensor:
    """Return the exact largest |g|, NaN where there is one  # (k, N) -> (k,)."""
    # Two reads: aminmax along a dimension is ten times as slow, and its |g| would be a copy.
    return torch.maximum(-scalars.amin(1), scalars.amax(1))


GRAD_MAX = Formula("grad_max", largest, join=largest)
