"""Single numbers that live in tensors: read at once on the CPU, with the next transfer elsewhere, so that no step waits for a device."""

from __future__ import annotations

import math

import torch

from seismograd.listen.ranks.pieces import held_part


class Scalar:
    """A number that is known, or a one-element tensor that holds it until somebody brings it over."""

    __slots__ = ("known", "tensor", "value")

    def __init__(self, source: object) -> None:
        self.known = False  # else `value` is NaN for want of a number
        self.value = math.nan
        self.tensor: torch.Tensor | None = None
        if isinstance(source, torch.Tensor):
            if source.numel() != 1 or source.is_complex() or source.is_meta:
                return
            self.known = True
            held = held_part(source)
            if held.device.type == "cpu":
                self.value = float(held)
            else:
                self.tensor = held.clone()
        elif isinstance(source, int | float):
            self.known = True
            self.value = float(source)

    def settle(self, value: float) -> None:
        """The number has come over."""
        self.value = value
        self.tensor = None

    def read(self) -> float:
        """The number, waiting for the device where it must."""
        if self.tensor is not None:
            self.settle(float(self.tensor))
        return self.value


def total_of(tensors: tuple[object, ...]) -> object:
    """The sum of several one-element tensors, as `Scalar` takes it; `None` when any holds more than one number."""
    if len(tensors) == 1:
        return tensors[0]
    parts = [t.detach().reshape(()) for t in tensors if isinstance(t, torch.Tensor) and t.numel() == 1]
    return torch.stack(parts).sum() if parts and len(parts) == len(tensors) else None
