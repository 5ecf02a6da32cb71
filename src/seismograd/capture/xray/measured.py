"""Measure one tensor: its size in numbers that stay on its device until all are fetched at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seismograd.measure.transfer import wide_dtype
from seismograd.tensors.freed_memory import is_readable

_linalg: Any = torch.linalg


def is_measurable(tensor: Any) -> bool:
    """Return whether a tensor has numbers that can be measured here: floating ones of its own, at
    least one.
    """
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not tensor.is_nested
        and tensor.numel() > 0
        and is_readable(tensor)  # there are no numbers inside functorch
    )


def rms(tensor: Tensor) -> Tensor:
    """Return the root of the mean square, which does not overflow where the tensor does not."""
    return norm(tensor.detach().reshape(-1)) / math.sqrt(tensor.numel())


def norm(tensor: Tensor) -> Tensor:
    """Return the L2 norm along the last axis, summed in the widest dtype of the device."""
    result: Tensor = _linalg.vector_norm(tensor, dim=-1, dtype=wide_dtype(tensor.device))
    return result


def largest(tensor: Tensor) -> Tensor:
    """Return the largest magnitude, NaN where there is one."""
    low, high = torch.aminmax(tensor.detach())
    return torch.maximum(low.abs(), high.abs())


def zero_share(tensor: Tensor) -> Tensor:
    """Return the share of scalars that are exactly zero."""
    found = torch.count_nonzero(tensor.detach())
    return 1 - found.to(wide_dtype(tensor.device)) / tensor.numel()


class Fetched:
    """Numbers on any devices, which are brought to the host together."""

    def __init__(self) -> None:
        self._places: dict[torch.device, list[tuple[dict[str, float], str, Tensor]]] = {}

    def add(self, numbers: dict[str, float], name: str, tensor: Tensor) -> None:
        """Schedule a one-element tensor to become `numbers[name]`."""
        self._places.setdefault(tensor.device, []).append((numbers, name, tensor))

    def finish(self) -> None:
        """Fetch them all: one transfer per device."""
        for device, places in self._places.items():
            wide = wide_dtype(device)
            together = torch.stack([tensor.reshape(()).to(wide) for _, _, tensor in places])
            arrived: list[float] = together.tolist()  # pyright: ignore
            for (numbers, name, _), value in zip(places, arrived, strict=True):
                numbers[name] = value
        self._places.clear()
