"""Order what is done with memory of a device on one stream after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seismograd.measure.cuda.device_queue import DeviceQueue, Event


class StreamOrder:
    """Memory of a device that one measurement after the other uses, each on the stream that is
    current then: where that is another one than before, it waits on the device for what was done
    last.
    """

    def __init__(self, queue: DeviceQueue) -> None:
        self._queue = queue
        self._stream = queue.stream()
        self._last: Event | None = None
        self._memory: list[Tensor] = []

    def memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the device that is used in this order  # (num,), zeros."""
        self._memory.append(self._queue.memory(num, dtype))
        return self._memory[-1]

    def stream(self) -> Any:
        """Return the current stream, which has been given the order to wait where it must."""
        stream = self._queue.stream()
        if stream != self._stream:
            if self._last is not None:
                self._queue.wait(stream, self._last)
            for each in self._memory:
                self._queue.keep(each, stream)
            self._stream = stream
        return stream

    def used(self, event: Event) -> None:
        """Note an event that is recorded behind all that was done with the memory."""
        self._last = event
