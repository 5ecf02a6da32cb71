"""The weights and gradients that the update probe can compare before and after a step."""

from __future__ import annotations

import torch

from seismograd.measure.native.slice_copies import Slice, SliceCopies
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable

Layout = tuple[torch.Size, torch.dtype, torch.device]


def comparable_weight(parameter: torch.Tensor) -> torch.Tensor | None:
    """Return what this process holds of a parameter, if it can be compared scalar by scalar."""
    held = held_part(parameter)
    if type(held) not in PLAIN_TYPES or held.layout is not torch.strided or held.numel() == 0:
        return None
    return (
        held if held.is_floating_point() and held.element_size() > 1 and is_readable(held) else None
    )


def layout_of(weight: torch.Tensor) -> Layout:
    """Return what must be the same for two states of a weight to be compared."""
    return weight.shape, weight.dtype, weight.device


def has_layout(parameter: torch.Tensor, layout: Layout) -> bool:
    """Return whether the weight can still be read, and has the same layout."""
    weight = comparable_weight(parameter)
    return weight is not None and layout_of(weight) == layout


def has_layout_of(gradient: torch.Tensor | None, weight: torch.Tensor) -> bool:
    """Return whether the gradient has the same memory layout as the weight."""
    held = None if gradient is None else held_part(gradient)
    if (
        held is None
        or held.layout is not torch.strided
        or held.shape != weight.shape
        or held.device != weight.device
    ):
        return False
    return is_readable(held)


def gradient_like(parameter: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of the gradient; zeros where there is none with the layout of
    the weight.
    """
    weight, gradient = held_part(parameter), parameter.grad
    return (
        held_part(gradient)
        if gradient is not None and has_layout_of(gradient, weight)
        else torch.zeros_like(weight)
    )


def slice_after(before: Slice, dtype: torch.dtype, closure: bool) -> Slice | None:
    """Return the slice after the step; `None` where the weight has been replaced."""
    parameter, _, start, count = before
    if (
        not SliceCopies.takes(parameter)
        or parameter.numel() < start + count
        or parameter.dtype != dtype
    ):
        return None
    if not closure:
        return parameter, None, start, count
    gradient = parameter.grad
    if gradient is None or not SliceCopies.takes(gradient) or gradient.numel() != parameter.numel():
        gradient = torch.zeros(parameter.shape, dtype=parameter.dtype, device="cpu")
    return parameter, gradient, start, count
