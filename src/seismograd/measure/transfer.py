"""Transfer small results to the host: one copy per device, however many they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seismograd.schema import FloatArray
from seismograd.tensors.cuda_graph import is_capturing


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype for sums and their transfer: float64, but float32 on MPS, which has no
    other.

    There a norm has seven digits and overflows where float32 does, and counts are exact up to 2^24.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def has_happened(event: Any) -> bool:
    """Return whether a CUDA event has happened, without waiting. While a graph is captured nobody
    may ask, as that would make the capture fail: then it has not.
    """
    return not is_capturing() and bool(event.query())


class Parcel:
    """Collects small tensors, each with the array and the positions in it where its numbers
    belong.
    """

    def __init__(self) -> None:
        self._contents: defaultdict[
            torch.device, list[tuple[Tensor, FloatArray, Sequence[int]]]
        ] = defaultdict(list)

    def add(self, tensor: Tensor, destination: FloatArray, positions: Sequence[int]) -> None:
        """Schedule a tensor  # (k, ...) to fill `destination[positions]`  # (n, ...) on
        delivery.
        """
        self._contents[tensor.device].append((tensor, destination, positions))

    def send(self) -> Delivery:
        """Send everything to the host."""
        return Delivery(
            [
                (
                    Package(
                        torch.cat(
                            [tensor.reshape(-1).to(wide_dtype(device)) for tensor, _, _ in contents]
                        )
                    ),
                    contents,
                )
                for device, contents in self._contents.items()
            ]
        )


class Package:
    """One tensor in transfer to the host: from CUDA without blocking, from elsewhere at once."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: Any = None
        if tensor.is_cuda:
            self._arrived = torch.empty(
                tensor.shape, dtype=tensor.dtype, pin_memory=True, device="cpu"
            )
            self._arrived.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensor.device))
        else:
            self._arrived = tensor.cpu()

    def is_done(self) -> bool:
        """Return whether it has arrived."""
        return self._event is None or has_happened(self._event)

    def numbers(self) -> FloatArray:
        """Return its contents, waiting if necessary."""
        if self._event is not None:
            self._event.synchronize()
        return self._arrived.to(torch.float64).numpy()


class Delivery:
    """The packages of a `Parcel`, one per device."""

    def __init__(
        self, packages: list[tuple[Package, list[tuple[Tensor, FloatArray, Sequence[int]]]]]
    ) -> None:
        self._packages = packages

    def is_done(self) -> bool:
        """Return whether all have arrived."""
        return all(package.is_done() for package, _ in self._packages)

    def finish(self) -> None:
        """Store all numbers where they belong, waiting if necessary."""
        packages, self._packages = self._packages, []
        for package, contents in packages:
            numbers, start = package.numbers(), 0
            for tensor, destination, positions in contents:
                destination[positions] = numbers[start : start + tensor.numel()].reshape(
                    tensor.shape
                )
                start += tensor.numel()
