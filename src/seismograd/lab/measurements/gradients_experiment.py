"""Show that a gradient is a tensor of its parameter's shape: one number for each weight, checked
against the slope of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.lab.digits import digits, small_net
from seismograd.lab.tensor_math import gradient_of, norm_of, quantiles

BATCH = 64
# of the finite difference; the loss is about 2.3, so rounding in float64 leaves about seven digits
STEP = 1e-6
CHECKED = 4  # scalars of each parameter
SIDE = 28  # pixels
CORNER = 10  # columns of fc2.weight that are shown
LEARNING_RATE = 0.1


@dataclass(frozen=True, slots=True)
class ParameterGradient:
    """The gradient of one parameter as numbers."""

    name: str
    shape: tuple[int, ...]
    count: int
    norm: float
    largest: float
    zeros: int


@dataclass(frozen=True, slots=True)
class ScalarGradient:
    """One scalar of a gradient: in float32 and float64 training, and the slope of the loss
    there.
    """

    parameter: str
    index: tuple[int, ...]
    single: float
    double: float
    slope: float


Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class UpdatedBlock:
    """A corner of fc2.weight, its gradient there, and the weights after `SGD.step()`; `error`: the
    largest difference of any weight of the network from w - lr · g.
    """

    weight: Matrix
    gradient: Matrix
    updated: Matrix
    error: float


@dataclass(frozen=True, slots=True)
class GradientsResult:
    """The results of the experiment. `exponents`: how many scalars of fc1.weight lie between 10^k
    and 10^(k+1).
    """

    parameters: tuple[ParameterGradient, ...]
    corner: float  # fc1.weight.grad[0, 0]
    corner_pixel: float  # the largest brightness of this pixel in any image
    scalars: tuple[ScalarGradient, ...]
    norm_of_scalars: float  # of fc1.weight, from its scalars one by one
    exponents: dict[int, int]
    # of |g| of the scalars of fc1.weight that are not zero: 1 %, the middle, 99 %
    quantiles: tuple[float, float, float]
    printed: str  # what print(fc1.weight.grad) shows
    unit: int  # the unit of fc1 whose weights have the largest gradient
    unit_gradient: Matrix  # of its weights, as the image they look at  # (28, 28)
    block: UpdatedBlock


def measure() -> GradientsResult:
    """Run the experiment."""
    images, labels = digits(BATCH)
    model, double = small_net(), small_net().double()
    F.cross_entropy(model(images), labels).backward()
    F.cross_entropy(double(images.double()), labels).backward()
    grads = {name: gradient_of(p) for name, p in model.named_parameters()}
    first = grads["fc1.weight"].double().flatten()
    nonzero = first[first != 0].abs()
    powers = torch.floor(torch.log10(nonzero)).long()
    low, middle, high = quantiles(nonzero, (0.01, 0.5, 0.99))
    unit = int(grads["fc1.weight"].square().sum(1).argmax())
    return GradientsResult(
        tuple(
            ParameterGradient(
                name,
                tuple(g.shape),
                g.numel(),
                norm_of(g),
                float(g.abs().max()),
                int((g == 0).sum()),
            )
            for name, g in grads.items()
        ),
        float(grads["fc1.weight"][0, 0]),
        float(images[:, 0].max()),
        tuple(
            scalar
            for name in grads
            for scalar in _checked(name, grads[name], double, images.double(), labels)
        ),
        math.hypot(*cast("list[float]", first.tolist())),
        {k: int((powers == k).sum()) for k in range(int(powers.min()), int(powers.max()) + 1)},
        (low, middle, high),
        str(grads["fc1.weight"]),
        unit,
        _matrix(grads["fc1.weight"][unit].reshape(SIDE, SIDE)),
        _updated(model),
    )


def _matrix(tensor: Tensor) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in tensor)


def _updated(model: nn.Module) -> UpdatedBlock:
    """Return a corner of fc2.weight before and after one step of SGD, which is made here."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    grads = {name: gradient_of(p).clone() for name, p in model.named_parameters()}
    torch.optim.SGD(model.parameters(), LEARNING_RATE).step()
    error = max(
        float((p.detach() - (before[name] - LEARNING_RATE * grads[name])).abs().max())
        for name, p in model.named_parameters()
    )
    corner = [
        _matrix(tensors["fc2.weight"][:, :CORNER].detach())
        for tensors in (before, grads, dict(model.named_parameters()))
    ]
    return UpdatedBlock(corner[0], corner[1], corner[2], error)


def _checked(
    name: str, gradient: Tensor, model: nn.Module, images: Tensor, labels: Tensor
) -> list[ScalarGradient]:
    """Return the scalars of largest magnitude, each with the slope of the loss along it: (loss(w +
    h) - loss(w - h)) / 2h.
    """
    parameter = model.get_parameter(name)
    found: list[ScalarGradient] = []
    for position in cast("list[int]", gradient.abs().flatten().topk(CHECKED).indices.tolist()):
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(position), gradient.shape))
        with torch.no_grad():
            before = float(parameter[index])
            losses: list[float] = []
            for offset in (STEP, -STEP):
                parameter[index] = before + offset
                losses.append(float(F.cross_entropy(model(images), labels)))
            parameter[index] = before
        slope = (losses[0] - losses[1]) / (2 * STEP)
        found.append(
            ScalarGradient(
                name, index, float(gradient[index]), float(gradient_of(parameter)[index]), slope
            )
        )
    return found
