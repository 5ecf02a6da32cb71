"""The gradient of a whole batch and that of its parts, with some modules in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from seismograd.capture.graph.loss_reduction import reduction_of
from seismograd.control.accumulate.state_guard import LossFunction, num_samples


class PartGradients:
    """Runs a model on the whole batch and on its parts, each time from the same buffers.

    `weight` is what the loss of a part is a mean over; read from the graph of the loss unless
    given, else the number of its samples.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batch: Any,
        parts: Sequence[Any],
        weight: Callable[[Any], float] | None,
    ) -> None:
        self._model, self._loss_fn, self._batch, self._parts, self._weight = (
            model,
            loss_fn,
            batch,
            parts,
            weight,
        )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._modes = {module: module.training for module in model.modules()}
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]

    def error(self, *, weighted: bool, off: Iterable[nn.Module] = ()) -> float:
        """Return the relative error with these modules in evaluation mode."""
        try:
            for module in off:
                module.training = False
            return deviation(self.of_parts(weighted), self.whole())[0]
        finally:
            for module, training in self._modes.items():
                module.training = training

    def whole(self) -> list[Tensor]:
        """Return the gradient of the whole batch."""
        return self._gradient(self._batch)[0]

    def of_parts(self, weighted: bool) -> list[Tensor]:
        """Return the mean of the gradients of the parts."""
        total = [
            torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32))
            for p in self.parameters
        ]
        found = [self._gradient(part, seed) for seed, part in enumerate(self._parts, 1)]
        if not weighted:
            shares = [1.0] * len(found)
        elif self._weight is not None:
            shares = [float(self._weight(part)) for part in self._parts]
        else:
            counts = [count for _, count in found]
            shares = (
                [float(num_samples(part)) for part in self._parts]
                if None in counts
                else [count or 0.0 for count in counts]
            )
        for (gradient, _), share in zip(found, shares, strict=True):
            if share:
                total = [
                    a + b * (share / sum(shares)) for a, b in zip(total, gradient, strict=True)
                ]
        return total

    def _gradient(self, batch: Any, seed: int = 0) -> tuple[list[Tensor], float | None]:
        """Return the gradient of one batch, from the same buffers each time, and what its loss is a
        mean over if the graph shows that.
        """
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        torch.manual_seed(seed)
        loss = self._loss_fn(self._model, batch)
        reduction = reduction_of(loss)
        gradients = cast(
            "tuple[Tensor | None, ...]",
            torch.autograd.grad(loss, self.parameters, allow_unused=True),
        )
        count = None if reduction is None else reduction.count.read()
        return [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(self.parameters, gradients, strict=True)
        ], count


def deviation(some: Sequence[Tensor], exact: Sequence[Tensor]) -> tuple[float, float]:
    """Return the norm of the difference / norm of the exact ones, and the cosine; NaN where the
    exact ones are zero.
    """
    sums = np.zeros(4)
    for a, b in zip(some, exact, strict=True):
        x, y = (torch.view_as_real(t) if t.is_complex() else t for t in (a.detach(), b.detach()))
        x, y = x.double(), y.double()
        sums += [float(each.sum()) for each in ((x - y).square(), x.square(), y.square(), x * y)]
    difference, mine, theirs, inner = sums.tolist()
    if theirs == 0:
        return (0.0 if difference == 0 else np.inf), np.nan
    return (difference / theirs) ** 0.5, inner / (mine * theirs) ** 0.5 if mine else np.nan
