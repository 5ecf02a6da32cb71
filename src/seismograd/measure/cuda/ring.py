"""A ring of host memory for copies that are under way: used again, never waited for, and never
overwritten before it was read.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy.typing as npt
import torch

from seismograd.measure.cuda.device_queue import DeviceQueue

MOST_SLOTS = 256  # that are kept: as many rows may be made at once


class Slot:
    """Memory of the host  # (num,), and the event after which its last copy has ended."""

    def __init__(self, queue: DeviceQueue, num: int, dtype: torch.dtype) -> None:
        self.tensor = queue.host_memory(num, dtype)
        self.numbers: npt.NDArray[Any] = self.tensor.numpy()  # the same memory
        self.event = queue.event()


class Ring:
    """The slots of one size that nobody holds, in the order in which they were put back.

    Who takes one holds it until it is put back. Where none is free, as when more copies are under
    way than ever before, there is a new one; one that its holder forgets is freed, by torch not
    before its copy has ended.
    """

    def __init__(self, queue: DeviceQueue, num: int, dtype: torch.dtype) -> None:
        self._queue, self._num, self._dtype = queue, num, dtype
        self._free: deque[Slot] = deque()

    def take(self) -> Slot:
        """Return a slot whose last copy has ended; does not wait."""
        if self._free and self._free[0].event.has_happened():
            return self._free.popleft()
        return Slot(self._queue, self._num, self._dtype)

    def put(self, slot: Slot) -> None:
        """Put a slot back, whose copy may still be under way, but which nobody will read."""
        if len(self._free) < MOST_SLOTS:
            self._free.append(slot)
