"""The table that the kernel reads: the tensors of one device in pieces, kept on that device as long
as the pointers stay.

Shapes: m tensors, n pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.native.library import DTYPES
from seismograd.measure.native.memory_layout import is_dense, layout_check
from seismograd.schema import IntArray
from seismograd.tensors.freed_memory import PLAIN_TYPES, are_dense_readable, is_readable

PIECE = 1 << 15  # scalars
WORDS = 8
POINTER, COUNT, DTYPE, ALIVE, NUM_ROWS, RUN, FIRST = range(7)


def takes(tensor: Tensor, device: torch.device) -> bool:
    """Return whether the kernel can read the tensor: plain, on that device, dense in any order of
    its dimensions, of a supported dtype.
    """
    if (
        type(tensor) not in PLAIN_TYPES
        or tensor.layout is not torch.strided
        or tensor.device != device
        or tensor.dtype not in DTYPES
    ):
        return False
    return not tensor.is_neg() and (
        tensor.numel() == 0
        or ((tensor.is_contiguous() or is_dense(tensor)) and is_readable(tensor))
    )


class CudaTable:
    """The table of m tensors for which `takes` is true. `is_new`: no iteration was measured with
    it, so its rows know nothing of earlier ones.
    """

    def __init__(self, tensors: Sequence[Tensor], device: torch.device, with_rows: bool) -> None:
        self.device = device
        self.num_tensors = len(tensors)
        self.num_rows = np.asarray(
            [t.shape[0] if with_rows and t.dim() >= 2 and t.numel() > 0 else 0 for t in tensors],
            np.int64,
        )
        self._is_still_so = layout_check(tensors)
        counts = np.asarray([t.numel() for t in tensors], np.int64)
        pieces = -(-counts // PIECE)
        # (n,) the tensor of each piece
        self.owner: IntArray = np.repeat(np.arange(len(tensors)), pieces)
        self.counts = counts
        first = (np.arange(len(self.owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * PIECE
        self.alive = torch.zeros(int(self.num_rows.sum()), dtype=torch.uint8, device=device)
        self.row_starts: IntArray = np.cumsum(self.num_rows) - self.num_rows
        words = self._words = np.zeros((len(self.owner), WORDS), np.int64)
        sizes = np.asarray([t.element_size() for t in tensors], np.int64)
        runs = np.asarray([_run(t) for t in tensors], np.int64)
        words[:, COUNT] = np.minimum(counts[self.owner] - first, PIECE)
        words[:, DTYPE] = np.asarray([DTYPES.index(t.dtype) for t in tensors], np.int64)[self.owner]
        words[:, ALIVE] = (self.alive.data_ptr() + self.row_starts)[self.owner]
        words[:, NUM_ROWS], words[:, RUN], words[:, FIRST] = (
            self.num_rows[self.owner],
            runs[self.owner],
            first,
        )
        self._offsets = first * sizes[self.owner]
        self._pointers: IntArray = np.empty(0, np.int64)
        self._on_device: Tensor | None = None

    def upload(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """Return the table with the pointers of these tensors  # (n, WORDS); `None` where their
        layout differs from the table's.
        """
        if not self._is_still_so(*tensors) or not are_dense_readable(tensors):
            return None
        pointers = np.fromiter(map(Tensor.data_ptr, tensors), np.int64, len(tensors))
        if self._on_device is None or not np.array_equal(pointers, self._pointers):
            self._pointers = pointers
            self._words[:, POINTER] = pointers[self.owner] + self._offsets
            words = torch.from_numpy(self._words.copy())
            # From pinned memory, which torch keeps until it is copied, nothing waits.
            self._on_device = (
                words.pin_memory().to(self.device, non_blocking=True)
                if self.device.type == "cuda"
                else words
            )
        return self._on_device


def _run(tensor: Tensor) -> int:
    """Return how many scalars of one row follow each other in memory."""
    return max(1, tensor.stride(0) if tensor.dim() >= 2 and tensor.shape[0] > 1 else tensor.numel())
