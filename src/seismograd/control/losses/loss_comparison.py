"""Compare the gradients of several losses: how large each is, and whether they point the same way.

Shapes: L losses, P parameters that any of them reaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seismograd.control.parameter_list import ParameterList
from seismograd.schema import FloatArray
from seismograd.tensors.isolation import in_own_context


@dataclass(frozen=True, slots=True)
class LossComparison:
    """Inner products of the gradients of several losses, for each parameter; a loss that does not
    reach one has zeros there.

    A norm or a cosine is NaN where a gradient is not finite, a cosine also where one is zero.
    """

    losses: tuple[str, ...]
    products: FloatArray  # (L, L, P)
    reached: npt.NDArray[np.bool_]  # (L, P)
    tensors: tuple[Tensor, ...] = field(repr=False)  # the parameters

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters, as in the script's modules  # P."""
        return ParameterList(self.tensors).names()

    @property
    @in_own_context
    def norms(self) -> FloatArray:
        """Return the L2 norm of each loss's gradient of each parameter  # (L, P)."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.einsum("iip->ip", self.products))

    @property
    @in_own_context
    def total_norms(self) -> FloatArray:
        """Return the L2 norm of each loss's whole gradient  # (L,)."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.einsum("iip->i", self.products))

    @property
    def cosines(self) -> FloatArray:
        """Return the cosines between the losses' gradients of each parameter  # (L, L, P)."""
        norms = self.norms
        return _cosine(self.products, norms[:, None] * norms[None, :])

    @property
    @in_own_context
    def total_cosines(self) -> FloatArray:
        """Return the cosines between whole gradients, over the parameters that both losses reach
        # (L, L).
        """
        both = self.reached[:, None] & self.reached[None, :]
        squares = np.einsum("iip->ip", self.products)
        mine = (squares[:, None] * both).sum(-1)
        with np.errstate(invalid="ignore"):
            return _cosine((self.products * both).sum(-1), np.sqrt(mine * np.swapaxes(mine, 0, 1)))


def compare_losses(
    named: Mapping[str, Tensor], parameters: Sequence[Tensor], scale: float = 1.0
) -> LossComparison:
    """Compute the gradient of each loss by itself and compare them; the graph is kept, and `.grad`
    is not changed.

    `scale`: the factor to multiply the losses by meanwhile, where half precision needs it; the
    result is without it.
    """
    found: list[tuple[Tensor | None, ...]] = [
        torch.autograd.grad(
            loss if scale == 1.0 else loss * scale,
            list(parameters),
            retain_graph=True,
            allow_unused=True,
        )
        for loss in named.values()
    ]
    reached = np.array([[gradient is not None for gradient in of_loss] for of_loss in found])
    products = np.zeros((len(found), len(found), len(parameters)))
    for position in range(len(parameters)):
        flat = [
            None if (gradient := of_loss[position]) is None else _flat(gradient) / scale
            for of_loss in found
        ]
        for i, one in enumerate(flat):
            for j, other in enumerate(flat[: i + 1]):
                if one is not None and other is not None:
                    products[i, j, position] = products[j, i, position] = float(
                        torch.dot(one, other)
                    )
    return LossComparison(tuple(named), products, reached, tuple(parameters))


def _flat(gradient: Tensor) -> Tensor:
    dense = gradient if gradient.layout is torch.strided else gradient.to_dense()
    return (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1).double()


@in_own_context
def _cosine(inner: FloatArray, norms: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.clip(inner / norms, -1.0, 1.0)
    return np.where((norms > 0) & np.isfinite(cosine), cosine, np.nan)
