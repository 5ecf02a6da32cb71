"""Compute one statistic from the scalars of tensors.

Shapes: k tensors, N scalars in each, C chunks of them, W numbers per tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Large enough that the calls cost nothing beside the reading, small enough that a temporary copy in
# float64 stays in the cache.
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Formula:
    """A statistic of `seismograd.schema.STATISTICS` as torch operations.

    `of` takes scalars of any floating dtype, at least one and at most about `CHUNK` of each tensor
    # (k, N) -> (k,) or (k, W); `join` takes the results of several chunks  # (k, C) -> (k,) or (k,
    C, W) -> (k, W).
    """

    name: str
    of: Callable[[Tensor], Tensor]
    join: Callable[[Tensor], Tensor]

    def __call__(self, scalars: Tensor) -> Tensor:
        """Return the statistic of each tensor, over any positive number of scalars  # (k, N) ->
        (k,) or (k, W).
        """
        if scalars.shape[1] <= CHUNK:
            return self.of(scalars)
        starts = range(0, scalars.shape[1], CHUNK)
        return self.join(
            torch.stack([self.of(scalars[:, start : start + CHUNK]) for start in starts], 1)
        )


def total(parts: Tensor) -> Tensor:
    """Return the sum over chunks  # (k, C) -> (k,) or (k, C, W) -> (k, W)."""
    return parts.sum(1)


def count_nonzero(scalars: Tensor) -> Tensor:
    """Return how many scalars are not zero; NaN is not  # (k, N) -> (k,)."""
    # Along a dimension it is three times as slow.
    return (
        torch.count_nonzero(scalars).reshape(1)
        if scalars.shape[0] == 1
        else torch.count_nonzero(scalars, dim=1)
    )
