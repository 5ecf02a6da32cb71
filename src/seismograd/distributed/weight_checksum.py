"""Checksums of weights, equal where the weights are bit-identical: of all that a process holds, and
of each parameter.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

import torch

from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# 2^64 over the golden ratio: spreads consecutive numbers (Knuth, The Art of Computer Programming 3,
# 6.4)
_MIX = 0x9E3779B97F4A7C15
_ALL = 2**64 - 1


class WeightChecksum:
    """Sums of the bit patterns of weights modulo 2^64, one for each tensor.

    Integer sums do not depend on the order of adding, so equal weights give equal sums on any
    device and any number of threads. Tensors are read when they are added; the sums come to the
    host when they are asked for.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[int, torch.Tensor]] = []
        self._weights: dict[int, weakref.ref[torch.Tensor]] = {}

    def add(self, keys: Sequence[int], weights: Sequence[torch.Tensor]) -> None:
        """Add what this process holds of these tensors; those that are not strided, are empty, or
        without memory are skipped.
        """
        with without_user_modes():
            for key, whole in zip(keys, weights, strict=True):
                weight = held_part(whole)
                if weight.layout is torch.strided and weight.numel() and is_readable(weight):
                    real = torch.view_as_real(weight) if weight.is_complex() else weight
                    bits = real.contiguous().view(_INTEGERS[real.element_size()])
                    self._sums.append((key, bits.sum(dtype=torch.int64)))
                    self._weights[key] = weakref.ref(whole)

    def value(self) -> int:
        """Return one sum of all tensors, at least 0 and less than 2^64."""
        return checksum_of(self.of_each())

    def of_each(self) -> dict[int, int]:
        """Return the sum of each tensor by its key, at least 0 and less than 2^64."""
        return {key: int(part) & _ALL for key, part in self._sums}

    def again(self) -> WeightChecksum:
        """Return the checksum of the same tensors as they are now, as far as they still exist."""
        now = WeightChecksum()
        there = {key: w for key, ref in self._weights.items() if (w := ref()) is not None}
        now.add(tuple(there), tuple(there.values()))
        return now


def checksum_of(sums: Mapping[int, int]) -> int:
    """Return one sum of several by their keys, each multiplied by a number of its own."""
    return sum(term(key, part) for key, part in sums.items()) & _ALL


def term(key: int, part: int) -> int:
    """Return what one tensor contributes to `checksum_of`."""
    return (2 * key + 1) * _MIX * part


def is_constant(part: int, numel: int, itemsize: int) -> bool:
    """Return whether all scalars of a tensor with this sum may be the same number, as those of a
    bias that is zero at the beginning are.

    With random scalars that happens by chance once in `numel` tensors.
    """
    ones = {2: (0x3F80, 0x3C00), 4: (0x3F800000,), 8: (0x3FF0000000000000,)}.get(itemsize, ())
    signed = part - 2**64 if part >= 2**63 else part
    return (
        part == 0
        or any((bits * numel - part) & _ALL == 0 for bits in ones)
        or (itemsize < 8 and signed % numel == 0)
    )
