"""Backpropagate two losses of one network separately and together: how large each gradient is and
in which direction it points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.control.losses.task_losses import losses
from seismograd.lab.digits import digits
from seismograd.lab.tensor_math import gradient_of, relative_error

BATCH, HIDDEN = 128, 128
WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
NAMES = ("digit", "ink")


class TwoTasks(nn.Module):
    """A shared layer, then two outputs: which digit it is, and how much ink it took."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(784, HIDDEN)
        self.digit = nn.Linear(HIDDEN, 10)
        self.ink = nn.Linear(HIDDEN, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of the digits and the amount of ink  # (B, 784) -> (B, 10), (B,)."""
        hidden = F.relu(self.shared(images))
        return self.digit(hidden), self.ink(hidden).squeeze(1)


@dataclass(frozen=True, slots=True)
class ParameterConflict:
    """The gradients of one parameter: the norm of each loss's, and the cosine between them; NaN
    where only one reaches it.
    """

    name: str
    norms: tuple[float, float]
    cosine: float


@dataclass(frozen=True, slots=True)
class LossesResult:
    """The results of the experiment. `combined`: the cosine between the gradients of digit + weight
    × ink and of digit alone, for `WEIGHTS`.
    """

    parameters: tuple[ParameterConflict, ...]
    norms: tuple[float, float]
    cosine: float  # over what both reach
    sum_error: float  # gradient of the sum of the losses against the sum of their gradients
    apart_error: float  # two backwards against one
    combined: tuple[float, ...]


def measure() -> LossesResult:
    """Run the experiment."""
    images, labels = digits(BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TwoTasks()
    parameters = list(model.parameters())

    def both() -> tuple[Tensor, Tensor]:
        scores, ink = model(images)
        return F.cross_entropy(scores, labels), F.mse_loss(ink, images.mean(1) * 10)

    digit, ink = both()
    named = losses(None, digit=digit, ink=ink)
    compared = named.compare()
    alone = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in (digit, ink)
    ]
    total = [
        sum((g for g in each if g is not None), torch.zeros_like(p))
        for p, *each in zip(parameters, *alone, strict=True)
    ]
    named.backward()
    together = [gradient_of(p).clone() for p in parameters]
    model.zero_grad()
    for loss in both():
        loss.backward(retain_graph=True)
    apart = [gradient_of(p).clone() for p in parameters]
    names = {id(p): name for name, p in model.named_parameters()}
    norms, cosines = compared.norms, compared.cosines
    return LossesResult(
        tuple(
            ParameterConflict(
                names[id(p)],
                (float(norms[0, position]), float(norms[1, position])),
                float(cosines[0, 1, position]),
            )
            for position, p in enumerate(compared.tensors)
        ),
        (float(compared.total_norms[0]), float(compared.total_norms[1])),
        float(compared.total_cosines[0, 1]),
        relative_error(together, total),
        relative_error(apart, together),
        tuple(_combined(compared.products.sum(2).tolist(), weight) for weight in WEIGHTS),
    )


def _combined(products: list[list[float]], weight: float) -> float:
    """Return the cosine between a + weight b and a, from their inner products."""
    (aa, ab), (_, bb) = products
    return (aa + weight * ab) / math.sqrt(aa * (aa + 2 * weight * ab + weight * weight * bb))
