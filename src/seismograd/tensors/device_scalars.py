"""Single numbers in tensors: read at once on the CPU, with the next transfer elsewhere, so that no
step waits for a device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from seismograd.exception_origin import raised_by_user
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable


class Scalar:
    """A known number, or a one-element tensor that holds it until it is transferred."""

    __slots__ = ("known", "tensor", "used", "value")

    def __init__(self, source: object) -> None:
        self.known = False  # otherwise `value` is NaN because no number is known
        self.used = False  # of a loss: a step has used its gradient
        self.value = math.nan
        self.tensor: torch.Tensor | None = None
        if type(source) is float:
            self.known, self.value = True, source
        elif (
            type(source) is torch.Tensor
            and source.is_cpu
            and source.layout is torch.strided
            and source.numel() == 1
            and not source.is_complex()
        ):  # as nearly every loss: what `is_readable` asks of it, without a call
            try:
                there = not torch._is_functional_tensor(source) and (  # pyright: ignore
                    source.untyped_storage().nbytes()
                    >= (source.storage_offset() + 1) * source.element_size()
                )
            except RuntimeError as error:
                if raised_by_user(error):
                    raise
                return
            if there:
                self.known, self.value = True, float(source.item())
        elif isinstance(source, torch.Tensor):
            if source.numel() != 1 or source.is_complex() or not is_readable(source):
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

    @classmethod
    def on_device(cls, tensor: torch.Tensor) -> Scalar:
        """Return a number just computed on a device, whose tensor nobody else holds."""
        scalar = cls(None)
        scalar.known, scalar.tensor = True, tensor
        return scalar

    def settle(self, value: float) -> None:
        """Store the number after its transfer."""
        self.value = value
        self.tensor = None

    def read(self) -> float:
        """Return the number, waiting for the device if necessary."""
        if self.tensor is not None:
            self.settle(float(self.tensor))
        return self.value


class TotalWeight(Scalar):
    """The divisor of weighted losses at the end of their window: their total weight, times the loss
    scale if there is one.
    """

    __slots__ = ("loss_scale",)

    def __init__(self) -> None:
        super().__init__(1.0)
        self.loss_scale = 1.0


@dataclass(frozen=True, slots=True)
class Product:
    """A product of numbers, some of which may still be on a device."""

    factors: tuple[Scalar, ...] = ()
    divisors: tuple[Scalar, ...] = ()

    def times(self, number: torch.Tensor | float) -> Product:
        """Return the product multiplied by one more number."""
        return Product((*self.factors, Scalar(number)), self.divisors)

    def over(self, number: torch.Tensor | float) -> Product:
        """Return the product divided by one more number."""
        return Product(self.factors, (*self.divisors, Scalar(number)))

    def __mul__(self, other: Product) -> Product:
        return Product((*self.factors, *other.factors), (*self.divisors, *other.divisors))

    def over_all(self, other: Product) -> Product:
        """Return the product divided by all of the other."""
        return Product((*self.factors, *other.divisors), (*self.divisors, *other.factors))

    def pending(self) -> list[Scalar]:
        """Return those that are still to be transferred."""
        return [scalar for scalar in (*self.factors, *self.divisors) if scalar.tensor is not None]

    def read(self) -> float:
        """Return the number, waiting for the device if necessary; NaN where it divides by zero."""
        below = math.prod(scalar.read() for scalar in self.divisors)
        return math.prod(scalar.read() for scalar in self.factors) / below if below else math.nan


def total_of(tensors: tuple[object, ...]) -> object:
    """Return the sum of several one-element tensors, as `Scalar` takes it; `None` when any holds
    more than one number.
    """
    if len(tensors) == 1:
        return tensors[0]
    parts = [
        t.detach().reshape(()) for t in tensors if isinstance(t, torch.Tensor) and t.numel() == 1
    ]
    return torch.stack(parts).sum() if parts and len(parts) == len(tensors) else None
