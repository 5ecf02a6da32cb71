"""Batch similar tensors: a model of a thousand small ones then costs a few calls of torch and not
tens of thousands.

Shapes: k tensors, N scalars stored in each, R rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Larger tensors stay alone: for them the calls cost nothing, and stacking would add a read and a
# write.
LARGEST_STACKED = 1 << 16
LARGEST_STACK = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """k tensors of one shape, dtype and device, and their `positions`: the numbers they came with.

    `numbers` is real and strided  # (k, ...), or one sparse tensor and k is 1.
    """

    positions: list[int]
    numbers: Tensor

    @property
    def num_implied_zeros(self) -> int:
        """Return how many zeros a sparse tensor does not store."""
        return self.numbers.numel() - self.numbers.values().numel() if self.numbers.is_sparse else 0

    def scalars(self) -> Tensor:
        """Return the stored scalars, in any order  # (k, N)."""
        numbers = self.numbers.values().unsqueeze(0) if self.numbers.is_sparse else self.numbers
        # With its dimensions in memory order, a transposed or channels-last tensor is flattened
        # without a copy.
        by_stride = sorted(range(1, numbers.dim()), key=numbers.stride, reverse=True)
        return (
            numbers.permute(0, *by_stride).flatten(1) if numbers.dim() > 1 else numbers.unsqueeze(1)
        )

    def alive_rows(self) -> Tensor:
        """Return which rows, along the first dimension of a tensor, hold a scalar other than zero;
        NaN is one  # (k, R) bool.
        """
        if not self.numbers.is_sparse:
            rows = self.numbers.flatten(2)
            # Two reads without a temporary; NaN comes through both.
            return (rows.amax(-1) != 0) | (rows.amin(-1) != 0)
        values = self.numbers.values()
        alive = torch.zeros(self.numbers.shape[0], dtype=torch.bool, device=values.device)
        if values.numel() > 0:
            is_nonzero = (values.unsqueeze(1) != 0).flatten(1).any(1)
            alive.index_fill_(0, self.numbers.indices()[0][is_nonzero], True)
        return alive.unsqueeze(0)


def batches(tensors: Iterable[tuple[int, Tensor]]) -> Iterator[TensorBatch]:
    """Yield readable tensors and their positions, in batches."""
    alike: defaultdict[tuple[torch.device, torch.dtype, torch.Size], list[tuple[int, Tensor]]] = (
        defaultdict(list)
    )
    for position, tensor in tensors:
        if tensor.is_sparse:
            yield TensorBatch([position], tensor)
        elif tensor.numel() > LARGEST_STACKED:
            yield TensorBatch([position], tensor.unsqueeze(0))
        else:
            alike[tensor.device, tensor.dtype, tensor.shape].append((position, tensor))
    for (_, _, shape), group in alike.items():
        size = max(1, LARGEST_STACK // max(1, shape.numel()))
        for start in range(0, len(group), size):
            members = group[start : start + size]
            yield TensorBatch(
                [position for position, _ in members],
                torch.stack([tensor for _, tensor in members]),
            )
