"""The table of the tensors of one device, and what of it lies on that device: made once, as long as
the tensors lie the same way. Only pointers that have changed are sent again.

Shapes: m tensors, n pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.cuda.device_queue import DeviceQueue
from seismograd.measure.cuda.pieces import NUM_FLAGS, PIECE, cut
from seismograd.measure.cuda.ring import Ring
from seismograd.measure.cuda.stream_order import StreamOrder
from seismograd.measure.native.library import DTYPE_CODES
from seismograd.measure.native.memory_layout import is_dense, layout_check
from seismograd.schema import HISTOGRAM_BINS, IntArray
from seismograd.tensors.freed_memory import PLAIN_TYPES, are_dense_readable, is_readable

NUMBERS = 9  # of a piece, and of a tensor; see `triton_kernel`
BLOCK = 512  # scalars that a program reads at once: four to a thread
MOST_ROWS = 2**31 - 1 - PIECE  # the kernel counts them in 32 bits
NOT_SENT = -1


def takes(tensor: Tensor, device: torch.device) -> bool:
    """Return whether the kernel can read the tensor: plain, on that device, dense in any order of
    its dimensions, of a supported dtype.
    """
    if (
        type(tensor) not in PLAIN_TYPES
        or tensor.layout is not torch.strided
        or tensor.device != device
        or tensor.dtype not in DTYPE_CODES
        or (tensor.dim() > 1 and tensor.shape[0] > MOST_ROWS)
    ):
        return False
    return not tensor.is_neg() and (
        tensor.numel() == 0
        or ((tensor.is_contiguous() or is_dense(tensor)) and is_readable(tensor))
    )


class CudaTable:
    """The table of m tensors for which `takes` is true, as they lie when it is made.

    `order` is that in which its memory is used. With `with_rows` it remembers which rows were ever
    alive.
    """

    def __init__(self, tensors: Sequence[Tensor], queue: DeviceQueue, with_rows: bool) -> None:
        self.num_tensors = len(tensors)
        self.order = StreamOrder(queue)
        self._queue = queue
        self._is_still_so = layout_check(tensors)
        pieces, whole = cut(tensors, with_rows)
        self._num_pieces = len(pieces)
        self._has_doubles = any(tensor.dtype is torch.float64 for tensor in tensors)
        memory = self.order.memory
        self._pieces, self._whole = self._sent(pieces), self._sent(whole)
        self._pointers = memory(len(tensors), torch.int64)
        self._pointers_sent: IntArray = np.full(len(tensors), NOT_SENT, np.int64)
        self._to_send = Ring(queue, len(tensors), torch.int64)
        self._flags = memory(int(whole[:, NUM_FLAGS].sum()), torch.uint8)
        self._numbers = memory(len(pieces) * NUMBERS, torch.float64)
        self._counts = memory(len(pieces) * HISTOGRAM_BINS if with_rows else 0, torch.int32)

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether tensors lie as those of the table, and can be read."""
        return (
            len(tensors) == self.num_tensors
            and self._is_still_so(*tensors)
            and are_dense_readable(tensors)
        )

    def measure(
        self,
        kernels: Any,
        tensors: Sequence[Tensor],
        into: Tensor,
        sampled: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Launch the kernels for tensors that fit.

        Args:
            kernels: the module `triton_kernel`.
            tensors: m tensors.
            into: where their numbers go, on the device  # (m · NUMBERS,).
            sampled: where it goes how many of their rows were never alive since that was last asked
                for  # (m,), and the counts of their exponents  # (m · HISTOGRAM_BINS,).
        """
        self._send_pointers(tensors)
        if self._num_pieces:
            self._queue.launch(
                kernels.measure_pieces,
                self._num_pieces,
                self._pieces,
                self._pointers,
                self._flags,
                self._numbers,
                self._counts,
                DOUBLES=self._has_doubles,
                COUNTING=sampled is not None,
                BLOCK=BLOCK,
                # Fusing a product with its sum is right here; Triton 3.9 warns that it does so
                # unasked.
                enable_fp_fusion=True,
            )
        self._queue.launch(
            kernels.merge_pieces,
            self.num_tensors,
            self._whole,
            self._numbers,
            self._counts,
            self._flags,
            into,
            *(sampled or (into, into)),
            SAMPLED=sampled is not None,
            BLOCK=BLOCK,
        )

    def _send_pointers(self, tensors: Sequence[Tensor]) -> None:
        """Send the pointers from the first to the last of those that have changed."""
        stream = self.order.stream()
        pointers = np.fromiter(map(Tensor.data_ptr, tensors), np.int64, len(tensors))
        changed = np.flatnonzero(pointers != self._pointers_sent)
        if not len(changed):
            return
        span = slice(int(changed[0]), int(changed[-1]) + 1)
        slot = self._to_send.take()
        slot.numbers[span] = pointers[span]
        self._queue.copy(self._pointers[span], slot.tensor[span])
        slot.event.record(stream)
        self._to_send.put(slot)
        self._pointers_sent = pointers

    def _sent(self, words: IntArray) -> Tensor:
        """Return these numbers on the device, one after the other."""
        there = self.order.memory(words.size, torch.int64)
        # given back at once: torch has nobody use it before it is copied
        here = self._queue.host_memory(words.size, torch.int64)
        here.numpy()[:] = words.reshape(-1)
        self._queue.copy(there, here)
        return there
