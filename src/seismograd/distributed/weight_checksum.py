"""A checksum that two replicas share as long as their weights are bit-identical."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# 2^64 over the golden ratio: spreads consecutive numbers (Knuth, The Art of Computer Programming 3,
# 6.4)
_MIX = 0x9E3779B97F4A7C15
_ALL = 2**64 - 1


class WeightChecksum:
    """The sum of the weights' bit patterns modulo 2^64, each tensor's multiplied by a number of its
    own.

    Integer sums do not depend on the order of adding, so equal weights give equal sums on any
    device and any number of threads. Tensors are read when they are added; the sums come to the
    host when `value` is called.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[int, torch.Tensor]] = []

    def add(self, keys: Sequence[int], weights: Sequence[torch.Tensor]) -> None:
        """Add tensors held by this process; those that are not strided, are empty, or without
        memory are skipped.
        """
        with without_user_modes():
            for key, weight in zip(keys, weights, strict=True):
                if weight.layout is torch.strided and weight.numel() and is_readable(weight):
                    real = torch.view_as_real(weight) if weight.is_complex() else weight
                    bits = real.contiguous().view(_INTEGERS[real.element_size()])
                    self._sums.append((key, bits.sum(dtype=torch.int64)))

    def value(self) -> int:
        """Return the sum, at least 0 and less than 2^64."""
        return sum((2 * key + 1) * _MIX * int(part) for key, part in self._sums) & _ALL
