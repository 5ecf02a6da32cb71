"""Compute numbers of tensors in double precision."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

MAX_SORTED = 100_000  # scalars that quantiles are taken of


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def norm_of(*tensors: Tensor) -> float:
    """Return the L2 norm over tensors."""
    return sum(float(tensor.detach().double().square().sum()) for tensor in tensors) ** 0.5


def relative_error(tensors: list[Tensor], exact: list[Tensor]) -> float:
    """Return how far tensors are from what they should be: the norm of the difference / the norm of
    the exact ones.
    """
    return norm_of(*(a - b for a, b in zip(tensors, exact, strict=True))) / norm_of(*exact)


def quantiles(tensor: Tensor, shares: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values below which these shares of the scalars lie."""
    flat = tensor.double().flatten()
    flat = flat[:: max(1, flat.numel() // MAX_SORTED)]
    return tuple(
        cast(
            "list[float]", torch.quantile(flat, torch.tensor(shares, dtype=torch.float64)).tolist()
        )
    )
