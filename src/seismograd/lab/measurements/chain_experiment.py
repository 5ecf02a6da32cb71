"""Demonstrate vanishing and exploding: a gradient is a product over the layers, so all its scalars,
and its norm, rise and fall together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from seismograd.control.clip.norm_clipping import clip_grad_norm_
from seismograd.lab.tensor_math import gradient_of, norm_of, quantiles

WIDTH, SAMPLES = 64, 16
DEPTHS = (2, 5, 10, 20, 50, 100, 150, 200)
GAINS = (0.9, 1.0, 1.1)
DEEP = 100  # depths in the table of scalars and norm
KINDS_DEPTH = 30
DIRECTIONS = 1000  # random gradients that a factor is measured with


@dataclass(frozen=True, slots=True)
class DepthResult:
    """A linear net of some depth whose layers multiply the gradient by `gain`: the gradient at its
    input, and the scalars there.
    """

    gain: float
    depth: int
    arrived: float  # norm at the input / norm at the output
    norm: float
    quantiles: tuple[float, float, float]  # of the magnitude of the scalars: 10 %, the middle, 90 %

    @property
    def predicted(self) -> float:
        """Return gain^depth."""
        return self.gain**self.depth


@dataclass(frozen=True, slots=True)
class LayerKindResult:
    """A net of `KINDS_DEPTH` layers of one kind: ratio of the gradient norms of the first and
    the last layer's weights.
    """

    name: str
    ratio: float

    @property
    def per_layer(self) -> float:
        """Return the factor by which each layer multiplies the gradient."""
        return self.ratio ** (1 / (KINDS_DEPTH - 1))


@dataclass(frozen=True, slots=True)
class FactorResult:
    """One factor of the product, a weight matrix: its singular values, the magnitudes of its
    eigenvalues, and by how much it multiplies the length of a gradient on the way back (the mean
    over random directions: the root mean square of the singular values).
    """

    name: str
    singular: tuple[float, float, float]  # smallest, median, largest
    eigen: tuple[float, float]  # smallest, largest
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class ChainResult:
    """The results of the experiment."""

    linear: tuple[DepthResult, ...]
    kinds: tuple[LayerKindResult, ...]
    # norms of the first and the last layer of a net that vanishes
    clipped_before: tuple[float, float]
    clipped_after: tuple[float, float]
    factors: tuple[FactorResult, ...]


def measure() -> ChainResult:
    """Run the experiment."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        linear = tuple(_linear(gain, depth) for gain in GAINS for depth in DEPTHS)
        kinds = tuple(
            LayerKindResult(name, end_ratio(_ends(_backward(make)))) for name, make in KINDS.items()
        )
        before, after = _clipped()
        factors = tuple(_factor(name, make()) for name, make in FACTORS.items())
    return ChainResult(linear, kinds, before, after, factors)


def _linear(gain: float, depth: int) -> DepthResult:
    """Initialize with orthogonal weights times the gain: each layer rotates the gradient and
    multiplies its length.
    """
    weights = [torch.nn.init.orthogonal_(torch.empty(WIDTH, WIDTH)) * gain for _ in range(depth)]
    inputs = torch.randn(SAMPLES, WIDTH, requires_grad=True)
    signal = inputs
    for weight in weights:
        signal = signal @ weight.T
    top = torch.randn_like(signal)
    (gradient,) = torch.autograd.grad(signal, inputs, top)
    low, middle, high = quantiles(gradient.abs(), (0.1, 0.5, 0.9))
    norm = norm_of(gradient)
    return DepthResult(gain, depth, norm / norm_of(top), norm, (low, middle, high))


def _factor(name: str, weight: Tensor) -> FactorResult:
    singular = cast("Tensor", torch.linalg.svdvals(weight.double()))
    eigen = cast("Tensor", torch.linalg.eigvals(weight.double())).abs()
    gradient = torch.randn(DIRECTIONS, WIDTH, dtype=torch.float64)
    low, middle, high = (float(singular.quantile(q)) for q in (0.0, 0.5, 1.0))
    return FactorResult(
        name,
        (low, middle, high),
        (float(eigen.min()), float(eigen.max())),
        float(singular.square().mean().sqrt()),
        norm_of(gradient @ weight.double()) / norm_of(gradient),
    )


def _linear_weight(init: Init | None = None) -> Tensor:
    weight = nn.Linear(WIDTH, WIDTH).weight.detach()
    return weight if init is None else init(weight)


Init = Callable[[Tensor], Tensor]


def for_relu(weight: Tensor) -> Tensor:
    """Initialize as He and others."""
    return nn.init.kaiming_normal_(weight, nonlinearity="relu")


def for_tanh(weight: Tensor) -> Tensor:
    """Initialize as Glorot and Bengio, with the gain that torch gives for tanh, 5/3."""
    return nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("tanh"))


class ChainBlock(nn.Module):
    """A linear layer and an activation, optionally normalized first and added to its input."""

    def __init__(
        self,
        activation: Callable[[Tensor], Tensor],
        init: Init | None = None,
        norm: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH) if norm else nn.Identity()
        self.activation, self.residual = activation, residual
        if init is not None:
            init(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer  # (B, WIDTH) -> (B, WIDTH)."""
        y = self.activation(self.norm(self.linear(x)))
        return x + y if self.residual else y


KINDS: dict[str, Callable[[], ChainBlock]] = {
    "sigmoid": lambda: ChainBlock(torch.sigmoid),
    "tanh": lambda: ChainBlock(torch.tanh),
    "ReLU": lambda: ChainBlock(torch.relu),
    "tanh, xavier_normal_": lambda: ChainBlock(torch.tanh, init=for_tanh),
    "ReLU, kaiming_normal_": lambda: ChainBlock(torch.relu, init=for_relu),
    "sigmoid, LayerNorm": lambda: ChainBlock(torch.sigmoid, norm=True),
    "ReLU, LayerNorm": lambda: ChainBlock(torch.relu, norm=True),
    "sigmoid, x + f(x)": lambda: ChainBlock(torch.sigmoid, residual=True),
    "ReLU, x + f(x)": lambda: ChainBlock(torch.relu, residual=True),
}


FACTORS: dict[str, Callable[[], Tensor]] = {
    "orthogonal × 0.9": lambda: nn.init.orthogonal_(torch.empty(WIDTH, WIDTH)) * GAINS[0],
    "orthogonal × 1.1": lambda: nn.init.orthogonal_(torch.empty(WIDTH, WIDTH)) * GAINS[2],
    "nn.Linear": _linear_weight,
    "kaiming_normal_": lambda: _linear_weight(for_relu),
    "normal_(std=0.5)": lambda: _linear_weight(lambda weight: nn.init.normal_(weight, std=0.5)),
}


def _backward(make: Callable[[], ChainBlock]) -> list[ChainBlock]:
    """Return `KINDS_DEPTH` layers after one backward."""
    blocks = [make() for _ in range(KINDS_DEPTH)]
    signal = torch.randn(SAMPLES, WIDTH)
    for block in blocks:
        signal = block(signal)
    (signal * torch.randn_like(signal)).mean().backward()
    return blocks


def _ends(blocks: Sequence[ChainBlock]) -> tuple[float, float]:
    """Return the norms of the gradients of the first and of the last layer's weights."""
    return norm_of(gradient_of(blocks[0].linear.weight)), norm_of(
        gradient_of(blocks[-1].linear.weight)
    )


def end_ratio(ends: tuple[float, float]) -> float:
    """Return first / last."""
    return ends[0] / ends[1]


def _clipped() -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the first and the last layer of a net of tanh layers, before and after its gradients
    are clipped to half their norm.
    """
    blocks = _backward(KINDS["tanh"])
    parameters = [p for block in blocks for p in block.parameters() if p.grad is not None]
    before = _ends(blocks)
    clip_grad_norm_(parameters, norm_of(*map(gradient_of, parameters)) / 2)
    return before, _ends(blocks)
