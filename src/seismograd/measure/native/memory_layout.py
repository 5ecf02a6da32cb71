"""Determine how a tensor lies in memory, and whether the kernel can read it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seismograd.measure.native.library import DTYPE_CODES
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """`count` numbers without gaps; its rows, if any, come in runs of `run` numbers, row after row,
    then the first again.
    """

    dtype: int
    count: int
    num_rows: int = 0
    run: int = 0


def layout_of(tensor: Tensor) -> MemoryLayout | None:
    """Return the layout of a tensor that the kernel can read: plain, on the CPU, dense in any order
    of its dimensions. `None` for any other.
    """
    if (
        type(tensor) not in PLAIN_TYPES
        or tensor.layout is not torch.strided
        or not tensor.is_cpu
        or tensor.dtype not in DTYPE_CODES
    ):
        return None
    dtype, count = DTYPE_CODES[tensor.dtype], tensor.numel()
    if count == 0:
        return MemoryLayout(dtype, 0)
    if (
        tensor.is_neg()
        or not (tensor.is_contiguous() or is_dense(tensor))
        or not is_readable(tensor)
    ):
        return None
    if tensor.dim() < 2:
        return MemoryLayout(dtype, count)
    num_rows = tensor.shape[0]
    return MemoryLayout(dtype, count, num_rows, tensor.stride(0) if num_rows > 1 else count)


def is_dense(tensor: Tensor) -> bool:
    """Return whether the numbers fill their memory, each at its own address, as in transposed and
    channels-last tensors.
    """
    expected = 1
    for stride, size in sorted(
        (stride, size)
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    ):
        if stride != expected:
            return False
        expected *= size
    return True


def layout_check(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    """Return a function that checks whether tensors, its arguments, have the types and layouts that
    these have now.
    """
    try:
        # torch.compile's own guards compare everything in C++, in 0.1 µs a tensor.
        from torch._C._dynamo.guards import TensorGuards

        check: Callable[..., bool] = TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
    except (ImportError, AttributeError, TypeError):
        expected = tuple(map(_description, tensors))
        return lambda *others: tuple(map(_description, others)) == expected
    return check


def _description(tensor: Tensor) -> tuple[object, ...]:
    if type(tensor) not in PLAIN_TYPES or tensor.layout is not torch.strided:
        return (type(tensor),)
    return (
        type(tensor),
        tensor.dtype,
        tensor.shape,
        tensor.stride(),
        tensor.device,
        tensor.is_neg(),
    )
