"""A device that does what it is given when a test says so: each stream in order, several in any.

All lies in memory of the host, which is garbage at first, as on a device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

GARBAGE = 0x5A  # each byte of fresh memory


@dataclass(eq=False)
class Record:
    """One recording of an event."""

    has_happened: bool = False


class LazyEvent:
    def __init__(self, device: LazyDevice) -> None:
        self._device = device
        self.last = Record(has_happened=True)

    def record(self, stream: Stream) -> None:
        record = self.last = Record()

        def happen() -> None:
            record.has_happened = True

        stream.queue.append(happen)

    def has_happened(self) -> bool:
        return self.last.has_happened

    def synchronize(self) -> None:
        assert self._device.may_wait, "somebody waits for the device"
        self._device.finish()


@dataclass(eq=False)
class Stream:
    """What is still to be done; a `Record` lets it wait until that has happened."""

    queue: deque[Callable[[], object] | Record] = field(
        default_factory=deque[Callable[[], object] | Record]
    )

    def advance(self) -> bool:
        """Do the next thing, and return whether that could be done."""
        if not self.queue:
            return False
        first = self.queue[0]
        if isinstance(first, Record):
            if not first.has_happened:
                return False
            self.queue.popleft()
        else:
            self.queue.popleft()()
        return True


class LazyDevice:
    """A device with streams, of which one is current, and the queue that a backend asks for."""

    def __init__(self, num_streams: int = 1) -> None:
        self.streams = [Stream() for _ in range(num_streams)]
        self.current = self.streams[0]
        self.may_wait = False
        self.num_copies = 0
        self.copied_bytes: list[int] = []
        self.host_memory_made = 0
        self.device_memory_made = 0
        # of memory of the device, by its first byte: the tensor, and the streams that may use it
        self._users: dict[int, tuple[Tensor, set[Stream]]] = {}

    def do(self, work: Callable[[], object]) -> None:
        """Give work to the current stream, as the training does."""
        self.current.queue.append(work)

    def finish(self) -> None:
        """Do everything."""
        while any(stream.advance() for stream in self.streams):
            pass
        assert not any(stream.queue for stream in self.streams), "a stream waits forever"

    # what the backend asks for

    def __call__(self, _device: torch.device) -> LazyDevice:
        return self

    def stream(self) -> Stream:
        return self.current

    def event(self) -> LazyEvent:
        return LazyEvent(self)

    def wait(self, stream: Stream, event: LazyEvent) -> None:
        stream.queue.append(event.last)

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        self._users[tensor.untyped_storage().data_ptr()][1].add(stream)

    def memory(self, num: int, dtype: torch.dtype) -> Tensor:
        self.device_memory_made += 1
        made = _garbage(num, dtype)
        self._users[made.untyped_storage().data_ptr()] = made, {self.current}
        self.do(made.zero_)
        return made

    def host_memory(self, num: int, dtype: torch.dtype) -> Tensor:
        self.host_memory_made += 1
        return _garbage(num, dtype)

    def copy(self, into: Tensor, source: Tensor) -> None:
        self._check_user(into)
        self._check_user(source)
        self.num_copies += 1
        self.copied_bytes.append(into.nbytes)
        self.do(lambda: into.copy_(source))

    def launch(self, kernel: Any, num_programs: int, *arguments: Tensor, **options: Any) -> None:
        for argument in arguments:
            self._check_user(argument)
        self.do(lambda: kernel[(num_programs,)](*arguments, **options))

    def _check_user(self, tensor: Tensor) -> None:
        _, users = self._users.get(tensor.untyped_storage().data_ptr(), (None, {self.current}))
        assert self.current in users, "memory that may be given to another stream while it is used"


def _garbage(num: int, dtype: torch.dtype) -> Tensor:
    made = torch.empty(max(num, 1), dtype=dtype)  # never without an address
    made.numpy().view(np.uint8)[:] = GARBAGE
    return made[:num]
