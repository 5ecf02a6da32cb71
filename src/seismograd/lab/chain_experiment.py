"""Demonstrate vanishing and exploding: a gradient is a product over the layers, so all its scalars,
and its norm, rise and fall together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seismograd.control.clip.norm_clipping import clip_grad_norm_
from seismograd.i18n import Message, say
from seismograd.lab.lab_page import Chart, ChartSeries, Page, PageTable, Paragraph, number
from seismograd.lab.tensor_math import gradient_of, norm_of, quantiles

WIDTH, SAMPLES = 64, 16
DEPTHS = (2, 5, 10, 20, 50, 100, 150, 200)
GAINS = (0.9, 1.0, 1.1)
DEEP = 100  # depths in the table of scalars and norm
KINDS_DEPTH = 30


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
class ChainResult:
    """The results of the experiment."""

    linear: tuple[DepthResult, ...]
    kinds: tuple[LayerKindResult, ...]
    # norms of the first and the last layer of a net that vanishes
    clipped_before: tuple[float, float]
    clipped_after: tuple[float, float]


def measure() -> ChainResult:
    """Run the experiment."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        linear = tuple(_linear(gain, depth) for gain in GAINS for depth in DEPTHS)
        kinds = tuple(
            LayerKindResult(name, _ratio(_ends(_backward(make)))) for name, make in KINDS.items()
        )
        before, after = _clipped()
    return ChainResult(linear, kinds, before, after)


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


def _ratio(ends: tuple[float, float]) -> float:
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


def describe(found: ChainResult) -> Page:
    """Return the page that describes the results."""
    at = {(each.gain, each.depth): each for each in found.linear}
    worst = max(abs(each.arrived / each.predicted - 1) for each in found.linear)
    kinds = {each.name: each for each in found.kinds}
    return Page(
        say("The chain rule: a gradient is a product over the layers"),
        (
            Paragraph(
                say(
                    "These are linear networks of 2 to {depth} layers, each of which rotates the "
                    "signal and multiplies its length by a gain. The gradient at the input, "
                    "divided by the gradient at the output, is the gain to the power of the depth, "
                    "up to a factor of 1 ± {worst:.0e}: after {deep} layers it is {low:.2g} with "
                    "gain 0.9 and {high:,.0f} with gain 1.1.",
                    depth=DEPTHS[-1],
                    worst=worst,
                    deep=DEEP,
                    low=at[0.9, DEEP].arrived,
                    high=at[1.1, DEEP].arrived,
                )
            ),
            Chart(
                say("Gradient at the input, by depth"),
                say("layers"),
                [
                    ChartSeries(
                        say("gain {gain}", gain=gain),
                        DEPTHS,
                        [at[gain, depth].arrived for depth in DEPTHS],
                    )
                    for gain in (GAINS[2], GAINS[1], GAINS[0])
                ],
                log=True,
            ),
            PageTable(
                (
                    say("layers"),
                    *(
                        head
                        for gain in GAINS
                        for head in (say("gain {gain}", gain=gain), f"{gain}^n")
                    ),
                ),
                [
                    (
                        str(depth),
                        *(
                            cell
                            for gain in GAINS
                            for cell in (
                                number(at[gain, depth].arrived),
                                number(at[gain, depth].predicted),
                            )
                        ),
                    )
                    for depth in DEPTHS
                ],
            ),
            Paragraph(
                say(
                    "Do single scalars vanish or explode, or does the norm? Both do, together, "
                    "because each layer multiplies all scalars. The table shows small, medium and "
                    "large scalars of one gradient next to its norm; the ratio of the scalars to "
                    "the norm hardly changes."
                )
            ),
            PageTable(
                (
                    say("gain, layers"),
                    say("10th percentile"),
                    say("median"),
                    say("90th percentile"),
                    say("norm"),
                    say("median / norm"),
                ),
                [
                    (
                        f"{gain}, {depth}",
                        *(number(q, 3) for q in at[gain, depth].quantiles),
                        number(at[gain, depth].norm, 3),
                        number(at[gain, depth].quantiles[1] / at[gain, depth].norm, 3),
                    )
                    for gain in (0.9, 1.1)
                    for depth in (2, 50, 100, 200)
                ],
            ),
            Paragraph(_of_activations(kinds)),
            PageTable(
                (
                    say("{depth} layers of", depth=KINDS_DEPTH),
                    say("first layer / last layer"),
                    say("factor per layer"),
                ),
                [
                    (each.name, number(each.ratio, 3), f"× {each.per_layer:.3f}")
                    for each in found.kinds
                ],
            ),
            Paragraph(
                say(
                    "Clipping does not fix this, because it multiplies every layer by the same "
                    "number. When the {layers} layers of tanh are clipped to half of their total "
                    "norm, the first layer goes from {first_before:.2e} to {first_after:.2e} and "
                    "the last from {last_before:.2e} to {last_after:.2e}; their ratio was "
                    "{ratio_before:.3e} and is now {ratio_after:.3e}. When gradients explode, "
                    "clipping limits the size of the update, but the product over the layers stays "
                    "the same.",
                    layers=KINDS_DEPTH,
                    first_before=found.clipped_before[0],
                    first_after=found.clipped_after[0],
                    last_before=found.clipped_before[1],
                    last_after=found.clipped_after[1],
                    ratio_before=_ratio(found.clipped_before),
                    ratio_after=_ratio(found.clipped_after),
                )
            ),
        ),
        (
            (
                say("See how a network with vanishing gradients is diagnosed:"),
                "seismograd run examples/broken_net.py",
            ),
            (say("How this diagnosis is made:"), "seismograd explain SG101"),
        ),
    )


def _of_activations(kinds: dict[str, LayerKindResult]) -> Message:
    return say(
        "With activations, each layer also multiplies the gradient by their derivative. {layers} "
        "layers of sigmoid with PyTorch's default initialisation leave {sigmoid:.1e} of the "
        "gradient at the first layer. Weights initialised for ReLU (kaiming_normal_) leave "
        "{kaiming:.2g}, a normalisation in each ReLU layer leaves {norm:.2g}, and residual "
        "connections leave {residual:.2g}.",
        layers=KINDS_DEPTH,
        sigmoid=kinds["sigmoid"].ratio,
        kaiming=kinds["ReLU, kaiming_normal_"].ratio,
        norm=kinds["ReLU, LayerNorm"].ratio,
        residual=kinds["ReLU, x + f(x)"].ratio,
    )
