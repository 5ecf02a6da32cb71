"""Measure one tensor with the kernel, at once: a call in place of a dozen operations of torch."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import (
    BEST_INSTRUCTION_SET,
    DTYPE_CODES,
    ENTRY_WORDS,
    NUMBERS,
    load,
)

NORM, LARGEST, ZEROS = (NUMBERS.index(name) for name in ("norm", "largest", "zeros"))
Entry = ctypes.c_int64 * ENTRY_WORDS
Numbers = ctypes.c_double * len(NUMBERS)


class MeasuredTensor(NamedTuple):
    """The L2 norm, the largest magnitude and how many scalars are exactly zero."""

    norm: float
    largest: float
    zeros: float


def takes(tensor: Tensor) -> bool:
    """Return whether the kernel, if there is one, can read a tensor as it lies in memory: plain,
    row by row on the CPU, with at least one scalar.
    """
    return tensor_reads.number_of_dtype(tensor, DTYPE_CODES) >= 0 and tensor.numel() > 0


def measure(tensor: Tensor) -> MeasuredTensor | None:
    """Return the numbers of a tensor that has some; `None` where the kernel cannot read it, or
    where there is none.
    """
    library, code = load(), tensor_reads.number_of_dtype(tensor, DTYPE_CODES)
    if library is None or code < 0:
        return None
    entry, numbers = Entry(tensor.data_ptr(), tensor.numel(), 0, 0, 0, code, 0), Numbers()
    threads = torch.get_num_threads()
    used: int = library.seismograd_measure(entry, 1, threads, BEST_INSTRUCTION_SET, numbers, None)
    if used < 0:
        return None
    return MeasuredTensor(numbers[NORM], numbers[LARGEST], numbers[ZEROS])


def num_outside(tensor: Tensor, low: float, high: float) -> int | None:
    """Return how many scalars of a tensor are `low` or below, or `high` or above; NaN is neither.
    `None` where the kernel cannot read it, or where there is none.
    """
    library, code = load(), tensor_reads.number_of_dtype(tensor, DTYPE_CODES)
    if library is None or code < 0:
        return None
    found: int = library.seismograd_outside(tensor.data_ptr(), tensor.numel(), code, low, high)
    return found
