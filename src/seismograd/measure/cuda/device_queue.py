"""What the backend asks of a device: memory, copies that do not block, streams and events. In
Triton's interpreter, which runs on the CPU, all of it has happened when a call returns.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from seismograd.measure.transfer import has_happened


class Event(Protocol):
    """A point in a stream, once recorded."""

    def record(self, stream: Any) -> None:
        """Set it behind all that the stream was given so far."""
        ...

    def has_happened(self) -> bool:
        """Return whether the device has come to it; does not wait."""
        ...

    def synchronize(self) -> None:
        """Wait for it on the host."""
        ...


class DeviceQueue(Protocol):
    """A device, and the order in which it does what it is given: that of one stream is kept, that
    of two is not, unless one waits for an event of the other.
    """

    def stream(self) -> Any:
        """Return the current stream of the device."""
        ...

    def event(self) -> Event:
        """Return an event that is not recorded yet, which counts as happened."""
        ...

    def wait(self, stream: Any, event: Event) -> None:
        """Let the stream wait for the event: on the device, not on the host."""
        ...

    def keep(self, tensor: Tensor, stream: Any) -> None:
        """Let nobody else have the memory of a tensor, once it is freed, before the stream has done
        what it was given by then. Of the stream on which it was made this is so anyway.
        """
        ...

    def memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the device  # (num,), zeros."""
        ...

    def host_memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the host that the device copies to and from by itself  # (num,)."""
        ...

    def copy(self, into: Tensor, source: Tensor) -> None:
        """Copy on the current stream, without blocking, between memory of the device and of the
        host.
        """
        ...

    def launch(self, kernel: Any, num_programs: int, *arguments: Any, **options: Any) -> None:
        """Launch so many programs of a kernel on the current stream."""
        ...


class CudaEvent:
    """A CUDA event without times."""

    def __init__(self) -> None:
        self._event: Any = torch.cuda.Event()

    def record(self, stream: Any) -> None:
        """Set it; see `Event.record`."""
        self._event.record(stream)

    def has_happened(self) -> bool:
        """Return whether the device has come to it; see `Event.has_happened`."""
        return has_happened(self._event)

    def synchronize(self) -> None:
        """Wait for it; see `Event.synchronize`."""
        self._event.synchronize()


class CudaQueue:
    """A CUDA device; see `DeviceQueue`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> Any:
        """Return the current stream."""
        return torch.cuda.current_stream(self._device)

    def event(self) -> Event:
        """Return a new event."""
        return CudaEvent()

    def wait(self, stream: Any, event: Event) -> None:
        """Let the stream wait."""
        assert isinstance(event, CudaEvent)
        stream.wait_event(event._event)  # pyright: ignore[reportPrivateUsage]

    def keep(self, tensor: Tensor, stream: Any) -> None:
        """Keep the memory from others until the stream has done what it was given."""
        tensor.record_stream(stream)

    def memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the device."""
        return torch.zeros(num, dtype=dtype, device=self._device)

    def host_memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return pinned memory."""
        return torch.empty(num, dtype=dtype, device="cpu", pin_memory=True)

    def copy(self, into: Tensor, source: Tensor) -> None:
        """Copy without blocking."""
        into.copy_(source, non_blocking=True)

    def launch(self, kernel: Any, num_programs: int, *arguments: Any, **options: Any) -> None:
        """Launch a kernel on this device, whichever is the current one."""
        with torch.cuda.device(self._device):
            kernel[(num_programs,)](*arguments, **options)


class HappenedEvent:
    """An event where nothing is ever under way."""

    def record(self, stream: Any) -> None:
        """Record nothing."""

    def has_happened(self) -> bool:
        """Return that it has."""
        return True

    def synchronize(self) -> None:
        """Wait for nothing."""


class InterpreterQueue:
    """The CPU, on which Triton's interpreter runs; see `DeviceQueue`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> Any:
        """Return the only one."""
        return None

    def event(self) -> Event:
        """Return an event that has happened."""
        return HappenedEvent()

    def wait(self, stream: Any, event: Event) -> None:
        """Wait for nothing."""

    def keep(self, tensor: Tensor, stream: Any) -> None:
        """Keep nothing."""

    def memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return memory."""
        return torch.zeros(num, dtype=dtype, device=self._device)

    def host_memory(self, num: int, dtype: torch.dtype) -> Tensor:
        """Return memory."""
        return torch.zeros(num, dtype=dtype, device="cpu")

    def copy(self, into: Tensor, source: Tensor) -> None:
        """Copy."""
        into.copy_(source)

    def launch(self, kernel: Any, num_programs: int, *arguments: Any, **options: Any) -> None:
        """Run the programs."""
        kernel[(num_programs,)](*arguments, **options)
