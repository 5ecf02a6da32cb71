"""Small results on their way to the host: one copy per device, however many they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from seismograd.schema import FloatArray


def wide_dtype(device: torch.device) -> torch.dtype:
    """The dtype that sums are made and carried in: float64, but float32 on MPS, which has no other.

    There a norm has seven digits and overflows where float32 does, and counts are exact up to 2^24.
    """
    return torch.float32 if device.type == "mps" else torch.float64


class Parcel:
    """Collects small tensors, each with the array and the places in it where its numbers belong."""

    def __init__(self) -> None:
        self._contents: defaultdict[torch.device, list[tuple[Tensor, FloatArray, Sequence[int]]]] = defaultdict(list)

    def add(self, tensor: Tensor, destination: FloatArray, places: Sequence[int]) -> None:
        """Have `destination[places]`  # (n, ...) filled with a tensor  # (k, ...) on delivery."""
        self._contents[tensor.device].append((tensor, destination, places))

    def deliver(self) -> None:
        """Bring everything over."""
        for device, contents in self._contents.items():
            numbers = _to_host(torch.cat([tensor.reshape(-1).to(wide_dtype(device)) for tensor, _, _ in contents]))
            start = 0
            for tensor, destination, places in contents:
                destination[places] = numbers[start : start + tensor.numel()].reshape(tensor.shape)
                start += tensor.numel()


def _to_host(packed: Tensor) -> FloatArray:
    return packed.cpu().to(torch.float64).numpy()
