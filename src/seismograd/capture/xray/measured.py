"""Measure one tensor: its size, by the kernel in one call, or else in numbers that stay on its
device until all are fetched at once.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seismograd.measure.native import one_tensor
from seismograd.measure.transfer import wide_dtype
from seismograd.tensors.freed_memory import is_readable

_linalg: Any = torch.linalg
Number = float | Tensor  # of one element


class Size(NamedTuple):
    """The root of the mean square, the largest magnitude, NaN where there is one, and the share of
    scalars that are exactly zero.
    """

    rms: Number
    largest: Number
    zeros: Number


def is_measurable(tensor: Any) -> bool:
    """Return whether a tensor has numbers that can be measured here: floating ones of its own, at
    least one.
    """
    if one_tensor.takes(tensor):
        return True
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not tensor.is_nested
        and tensor.numel() > 0
        and is_readable(tensor)  # there are no numbers inside functorch
    )


def size_of(tensor: Tensor) -> Size:
    """Return the size of a tensor that can be measured."""
    measured, num = one_tensor.measure(tensor), tensor.numel()
    if measured is None:
        return Size(_rms(tensor), _largest(tensor), _zero_share(tensor))
    return Size(measured.norm / math.sqrt(num), measured.largest, measured.zeros / num)


def norm(tensor: Tensor) -> Tensor:
    """Return the L2 norm along the last axis, summed in the widest dtype of the device."""
    result: Tensor = _linalg.vector_norm(tensor, dim=-1, dtype=wide_dtype(tensor.device))
    return result


class Fetched:
    """Numbers on any devices, which are brought to the host together."""

    def __init__(self) -> None:
        self._places: dict[torch.device, list[tuple[dict[str, float], str, Tensor]]] = {}

    def add(self, numbers: dict[str, float], name: str, number: Number) -> None:
        """Schedule a one-element tensor to become `numbers[name]`; a number is it at once."""
        if isinstance(number, Tensor):
            numbers[name] = float("nan")
            self._places.setdefault(number.device, []).append((numbers, name, number))
        else:
            numbers[name] = number

    def finish(self) -> None:
        """Fetch them all: one transfer per device."""
        for device, places in self._places.items():
            wide = wide_dtype(device)
            together = torch.stack([tensor.reshape(()).to(wide) for _, _, tensor in places])
            arrived: list[float] = together.tolist()  # pyright: ignore
            for (numbers, name, _), value in zip(places, arrived, strict=True):
                numbers[name] = value
        self._places.clear()


def _rms(tensor: Tensor) -> Tensor:
    """Return the root of the mean square, which does not overflow where the tensor does not."""
    return norm(tensor.detach().reshape(-1)) / math.sqrt(tensor.numel())


def _largest(tensor: Tensor) -> Tensor:
    """Return the largest magnitude, NaN where there is one."""
    low, high = torch.aminmax(tensor.detach())
    return torch.maximum(low.abs(), high.abs())


def _zero_share(tensor: Tensor) -> Tensor:
    """Return the share of scalars that are exactly zero."""
    found = torch.count_nonzero(tensor.detach())
    return 1 - found.to(wide_dtype(tensor.device)) / tensor.numel()
