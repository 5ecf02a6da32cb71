"""Measure what a step changed in slices that the kernel can copy and compare: one call before the
step and one after it.

Shapes: k slices.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import (
    DTYPE_CODES,
    DTYPES,
    SLICE_WORDS,
    address_of,
    address_of_function,
)
from seismograd.schema import FloatArray
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable

# a weight, its gradient, the first scalar of the slice in memory, the count
Slice = tuple[Tensor, Tensor | None, int, int]
ITEM_SIZES = {dtype: dtype.itemsize for dtype in DTYPES}


class SliceCopies:
    """Memory for the copies, reused in every step. The last ones kept are compared.

    Each copy begins at a whole word: its bytes are rounded up, `& ~7`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        # for `tensor_reads`, without ctypes
        self._keep_at = address_of_function(library.seismograd_keep)
        self._compare_at = address_of_function(library.seismograd_compare)
        self._memory = np.empty(0, np.uint8)
        self._address = 0

    @staticmethod
    def takes(tensor: Tensor) -> bool:
        """Return whether the kernel can read the tensor: plain, on the CPU, contiguous, of a
        supported dtype, and with memory.
        """
        if (
            type(tensor) not in PLAIN_TYPES
            or tensor.layout is not torch.strided
            or not tensor.is_cpu
            or tensor.dtype not in DTYPE_CODES
        ):
            return False
        return tensor.is_contiguous() and not tensor.is_neg() and is_readable(tensor)

    def keep_next(
        self, held: Sequence[Tensor], at: int, turn: int, num: int, room: int
    ) -> tuple[list[Slice], list[torch.dtype], int, int] | None:
        """Copy slices of so many of these weights, as `capture.probes.pending_probe` chooses them,
        all in one call of C; `None` where that is not possible, or there is no memory for them yet.
        """
        if not isinstance(held, list):
            return None
        found: Any = tensor_reads.keep_slices(
            held, at, turn, num, room, DTYPE_CODES, self._address, self._memory.size, self._keep_at
        )
        return found

    def compare_kept(self, slices: list[Slice], dtypes: list[torch.dtype]) -> FloatArray | None:
        """Return what `compare` does, if the weights are surely the kernel's still, with these
        dtypes.
        """
        numbers = np.empty((2, len(slices)))
        is_done = tensor_reads.compare_slices(
            slices, dtypes, DTYPE_CODES, self._address, self._compare_at, numbers
        )
        return numbers if is_done else None

    def keep(self, slices: list[Slice]) -> None:
        """Copy the slices and note where their gradients are not zero; a gradient of `None`
        comes with the step.
        """
        table, num_bytes = self._table(slices)
        if self._memory.size < num_bytes:
            memory = np.empty(num_bytes, np.uint8)
            # at once: an exception in between would leave an invalid address
            self._memory, self._address = memory, memory.ctypes.data
            table, _ = self._table(slices)
        self._library.seismograd_keep(table, len(slices))

    def compare(self, slices: list[Slice]) -> FloatArray:
        """Return the update ratios and unchanged shares of the kept slices, in the same order
        # (2, k).

        Pass the gradients that were not given to `keep`.
        """
        numbers = np.empty((2, len(slices)))
        table, _ = self._table(slices)
        self._library.seismograd_compare(table, len(slices), address_of(numbers))
        return numbers

    def _table(self, slices: list[Slice]) -> tuple[bytes | ctypes.Array[ctypes.c_int64], int]:
        """Return what the kernel is given, and how much memory the copies take."""
        found = tensor_reads.slice_table(slices, DTYPE_CODES, ITEM_SIZES, self._address)
        if found is not None:
            return found
        words: list[int] = []
        copy = marks = self._address
        for weight, _, _, count in slices:
            marks += count * ITEM_SIZES[weight.dtype] + 7 & ~7
        for weight, gradient, start, count in slices:
            size = ITEM_SIZES[weight.dtype]
            dtype = number = DTYPE_CODES[weight.dtype]
            where = 0
            if gradient is not None:
                where, number = (
                    gradient.data_ptr() + start * ITEM_SIZES[gradient.dtype],
                    DTYPE_CODES[gradient.dtype],
                )
            words += (weight.data_ptr() + start * size, where, copy, marks, count, dtype, number)
            copy += count * size + 7 & ~7
            marks += count
        return (ctypes.c_int64 * (SLICE_WORDS * len(slices)))(*words), marks - self._address
