"""Read the same few scalars of a weight again and again."""

from __future__ import annotations

import ctypes
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seismograd.schema import FloatArray
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable
from seismograd.tensors.isolation import without_user_modes

NUM_ROWS, NUM_COLUMNS = 4, 8  # of the scalars of each weight, as a matrix

Kept = bytes | torch.Tensor | None


class CpuRows:
    """Where the rows are: read without a call of ours, as long as the weight lies there."""

    __slots__ = ("address", "num_bytes", "rows", "shape", "where")

    def __init__(self, weight: torch.Tensor, positions: range) -> None:
        size = weight.element_size()
        self.address, self.num_bytes = weight.data_ptr(), weight.untyped_storage().nbytes()
        self.shape = weight.shape
        width = NUM_COLUMNS * size
        # as `tensor_reads` wants it, at once: the first row, how far apart, how long, in bytes
        rows = positions.start * size, positions.step * size, width
        self.where = struct.pack("=5q", self.address, self.num_bytes, *rows)
        row = ctypes.c_char * width
        self.rows = [row.from_address(self.address + position * size) for position in positions]


@dataclass(slots=True)
class WeightSlice:
    """Some scalars of one weight: as they were at the beginning of the phase that the last change
    began, and after the last step.

    They are `NUM_COLUMNS` scalars of each of `NUM_ROWS` rows, `stride` apart, beginning at `first`.
    """

    weight: weakref.ref[torch.Tensor]
    dtype: torch.dtype
    first: int
    stride: int
    start: Kept = None
    kept: Kept = None
    version: tuple[int, int] = (0, 0)  # of a weight on a device: where it is, and how often written
    rows: CpuRows | None = None  # of a weight on the CPU, as it lay when they were last read

    @classmethod
    def of(cls, weight: torch.Tensor) -> WeightSlice:
        """Choose scalars in the middle of a weight."""
        num_rows, stride = weight.shape[0], weight.numel() // weight.shape[0]
        if num_rows < NUM_ROWS or stride < NUM_COLUMNS:
            stride = NUM_COLUMNS
            num_rows = weight.numel() // stride
        first = (num_rows - NUM_ROWS) // 2 * stride + (stride - NUM_COLUMNS) // 2
        return cls(weakref.ref(weight), weight.dtype, first, stride)

    def keep(self) -> None:
        """Remember the scalars as the step leaves them."""
        weight = self.weight()
        self.kept = self.read(weight)
        if weight is not None and isinstance(self.kept, torch.Tensor):
            self.version = weight.data_ptr(), weight._version

    def read(self, weight: torch.Tensor | None) -> Kept:
        """Return the scalars now; `None` where they cannot be read as before."""
        last = self.first + (NUM_ROWS - 1) * self.stride + NUM_COLUMNS
        if (
            weight is None
            or weight.dtype is not self.dtype
            or weight.numel() < last
            or not weight.is_contiguous()
            or not is_readable(weight)
        ):
            return None
        if weight.is_cpu:
            self.rows = CpuRows(weight, range(self.first, last, self.stride))
            return b"".join([row.raw for row in self.rows.rows])
        self.rows = None
        with without_user_modes():
            shape, strides = (NUM_ROWS, NUM_COLUMNS), (self.stride, 1)
            offset = weight.storage_offset() + self.first
            return weight.detach().as_strided(shape, strides, offset).clone()

    def has_changed(self) -> bool:
        """Return whether the weight may differ from what was kept."""
        weight = self.weight()
        if weight is None or self.kept is None:
            return False
        if isinstance(self.kept, torch.Tensor):
            return (weight.data_ptr(), weight._version) != self.version
        return self.read(weight) not in (self.kept, None)

    def numbers(self, kept: Kept) -> FloatArray:
        """Return kept scalars as numbers  # (NUM_ROWS, NUM_COLUMNS)."""
        with without_user_modes():
            if isinstance(kept, bytes):
                kept = torch.frombuffer(bytearray(kept), dtype=self.dtype)
            assert kept is not None
            numbers = np.asarray(kept.double().cpu().numpy(), np.float64)
            return numbers.reshape(NUM_ROWS, NUM_COLUMNS)


def have_changed(slices: Sequence[WeightSlice]) -> bool:
    """Return whether any of the weights may differ from what was kept."""
    for each in slices:
        weight, rows = each.weight(), each.rows
        # These bytes can be read, whatever else the weight has become.
        if (
            rows is not None
            and weight is not None
            and weight.data_ptr() == rows.address
            and weight.untyped_storage().nbytes() == rows.num_bytes
        ):
            one, two, three, four = rows.rows
            if one.raw + two.raw + three.raw + four.raw == each.kept:
                continue
        if each.has_changed():
            return True
    return False


def keep_all(slices: Sequence[WeightSlice]) -> None:
    """Remember the scalars of each as the step leaves them: without a call of ours for one that
    lies where it did when it was last read as a whole.
    """
    for each in slices:
        weight, rows = each.weight(), each.rows
        if (
            rows is not None
            and weight is not None
            and weight.data_ptr() == rows.address
            and weight.untyped_storage().nbytes() == rows.num_bytes
            and weight.shape == rows.shape
            and weight.dtype is each.dtype
            and weight.is_contiguous()
        ):
            one, two, three, four = rows.rows
            each.kept = one.raw + two.raw + three.raw + four.raw
        else:
            each.keep()


def can_be_followed(weight: torch.Tensor) -> bool:
    """Return whether there are as many scalars in an ordinary weight that is trained."""
    return (
        type(weight) in PLAIN_TYPES
        and weight.ndim > 1
        and weight.numel() >= NUM_ROWS * NUM_COLUMNS
        and weight.is_floating_point()
        and weight.requires_grad
        and not weight.is_inference()
        and not weight.is_meta
    )
