"""Measure one tensor with the kernel, at once: a call in place of a dozen operations of torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.native.library import (
    BEST_INSTRUCTION_SET,
    DTYPES,
    NUMBERS,
    address_of,
    load,
)

CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
NORM, LARGEST, ZEROS = (NUMBERS.index(name) for name in ("norm", "largest", "zeros"))


class MeasuredTensor(NamedTuple):
    """The L2 norm, the largest magnitude and how many scalars are exactly zero."""

    norm: float
    largest: float
    zeros: float


def measure(tensor: Tensor) -> MeasuredTensor | None:
    """Return the numbers of a tensor that has some of its own (`measured.is_measurable`); `None`
    where the kernel cannot read it as it lies in memory, row by row on the CPU, or where there is
    no kernel.
    """
    library = load()
    if library is None or not tensor.is_cpu:
        return None
    code = CODES.get(tensor.dtype)
    if code is None or not tensor.is_contiguous() or tensor.is_neg():
        return None
    entry = np.array((tensor.data_ptr(), tensor.numel(), 0, 0, 0, code, 0), np.int64)
    numbers = np.empty(len(NUMBERS))
    threads = torch.get_num_threads()
    used: int = library.seismograd_measure(
        address_of(entry), 1, threads, BEST_INSTRUCTION_SET, address_of(numbers), None
    )
    if used < 0:
        return None
    listed: list[float] = numbers.tolist()
    return MeasuredTensor(listed[NORM], listed[LARGEST], listed[ZEROS])
