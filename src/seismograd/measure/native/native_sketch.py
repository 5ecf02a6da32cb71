"""Sketch tensors on the CPU with the kernel: one call for all of them.

Shapes: n tensors, W sums.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import (
    BEST_INSTRUCTION_SET,
    DTYPE_CODES,
    SKETCHED_WORDS,
    address_of,
    address_of_function,
)
from seismograd.measure.sketches.position_runs import PositionRuns
from seismograd.schema import SKETCH_WIDTH, FloatArray


def takes(tensor: Tensor) -> bool:
    """Return whether the kernel can read a tensor as it lies in memory: row by row."""
    return tensor.is_cpu and tensor.dtype in DTYPE_CODES and tensor.is_contiguous()


def sketch_plain(library: ctypes.CDLL, tensors: Sequence[Tensor]) -> FloatArray | None:
    """Return the sketches of plain tensors that are held whole  # (n, W), with one call for all;
    `None` where one is something else.
    """
    sums = np.zeros((len(tensors), SKETCH_WIDTH))
    address = address_of_function(library.seismograd_sketch)
    is_done = tensor_reads.sketch(
        list(tensors), DTYPE_CODES, address, torch.get_num_threads(), BEST_INSTRUCTION_SET, sums
    )
    return sums if is_done else None


def sketch_all(
    library: ctypes.CDLL,
    tensors: Sequence[Tensor],
    runs: Sequence[PositionRuns],
    instruction_set: int = BEST_INSTRUCTION_SET,
) -> FloatArray:
    """Return the sketches of tensors that the kernel takes  # (n, W). `library` is the kernel,
    from `library.load`.
    """
    entries = np.array(
        [
            (
                tensor.data_ptr(),
                each.starts.ctypes.data,
                len(each.starts),
                each.length,
                DTYPE_CODES[tensor.dtype],
            )
            for tensor, each in zip(tensors, runs, strict=True)
        ],
        np.int64,
    ).reshape(-1, SKETCHED_WORDS)
    sums = np.zeros((len(tensors), SKETCH_WIDTH))
    used = library.seismograd_sketch(
        address_of(entries),
        len(entries),
        torch.get_num_threads(),
        instruction_set,
        address_of(sums),
    )
    if used < 0:
        raise MemoryError("no memory to sketch in")
    return sums
