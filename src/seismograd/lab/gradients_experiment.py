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

from seismograd.i18n import say
from seismograd.lab.digits import digits, small_net
from seismograd.lab.lab_page import Chart, ChartSeries, Page, PageTable, Paragraph, number
from seismograd.lab.tensor_math import gradient_of, norm_of, quantiles

BATCH = 64
# of the finite difference; the loss is about 2.3, so rounding in float64 leaves about seven digits
STEP = 1e-6
CHECKED = 4  # scalars of each parameter


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
    )


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


def describe(found: GradientsResult) -> Page:
    """Return the page that describes the results."""
    first = found.parameters[0]
    shown = {scalar.parameter: scalar for scalar in reversed(found.scalars)}
    worst = max(abs(each.double - each.slope) / abs(each.double) for each in found.scalars)
    low, middle, high = found.quantiles
    largest = shown[first.name]
    return Page(
        say("What a gradient is: a tensor with the shape of its parameter"),
        (
            Paragraph(
                say(
                    "A 784-256-10 network processed {batch} digits, and backward() was called "
                    "once. {name} has shape {shape}, so its gradient has {count:,} scalars, one "
                    "per weight: the slope of the loss along that weight.",
                    batch=BATCH,
                    name=first.name,
                    shape=str(list(first.shape)),
                    count=first.count,
                )
            ),
            PageTable(
                (
                    say("parameter"),
                    say("shape"),
                    say("scalars"),
                    say("norm"),
                    say("largest |g|"),
                    say("exactly zero"),
                ),
                [
                    (
                        p.name,
                        str(list(p.shape)),
                        f"{p.count:,}",
                        number(p.norm),
                        number(p.largest),
                        f"{p.zeros / p.count:.1%}",
                    )
                    for p in found.parameters
                ],
            ),
            Paragraph(
                say(
                    "The norm is computed from these scalars and nothing else: the square root of "
                    "the sum of the {count:,} squares is {again:.6f}, and .grad.norm() is "
                    "{norm:.6f}.",
                    count=first.count,
                    again=found.norm_of_scalars,
                    norm=first.norm,
                )
            ),
            Paragraph(
                say(
                    "You can look at any scalar by its index. fc1.weight.grad[0, 0] is "
                    "{corner:.6g}. It belongs to the pixel in the corner, whose largest value in "
                    "these images is {pixel:g}, and a weight that is multiplied by zero does not "
                    "change the loss. The scalar with the largest magnitude is "
                    "fc1.weight.grad{index} = {value:.6g}.",
                    corner=found.corner,
                    pixel=found.corner_pixel,
                    index=str(list(largest.index)),
                    value=largest.single,
                )
            ),
            Paragraph(
                say(
                    "Is it really the slope? Move one weight by {step:g} in either direction and "
                    "compare the losses, in float64. Over {count} scalars, the slope differs from "
                    ".grad by a factor of at most 1 ± {worst:.1e}.",
                    step=STEP,
                    count=len(found.scalars),
                    worst=worst,
                )
            ),
            PageTable(
                (
                    say("scalar"),
                    say(".grad, float32"),
                    say(".grad, float64"),
                    say("slope of the loss"),
                ),
                [
                    (
                        f"{s.parameter}{list(s.index)}",
                        f"{s.single:.8f}",
                        f"{s.double:.8f}",
                        f"{s.slope:.8f}",
                    )
                    for s in (shown[p.name] for p in found.parameters)
                ],
            ),
            Paragraph(
                say(
                    "The scalars of one gradient differ widely: {zeros:.1%} of those of fc1.weight "
                    "are exactly zero (black pixels, and units whose ReLU output is zero). Of the "
                    "others, 98% lie between {low:.1e} and {high:.1e}, half of them below "
                    "{middle:.1e}.",
                    zeros=first.zeros / first.count,
                    low=low,
                    high=high,
                    middle=middle,
                )
            ),
            Chart(
                say("fc1.weight: number of scalars by magnitude"),
                say("scalars with 10^k ≤ |g| < 10^(k+1)"),
                (
                    ChartSeries(
                        say("scalars"), list(found.exponents), list(found.exponents.values())
                    ),
                ),
                "bars",
                log=True,
                labels=tuple(f"1e{k:+03d}" for k in found.exponents),
            ),
        ),
        (
            (
                say("The same for a whole training run, one scalar at every step:"),
                "seismograd run --element 'fc1.weight[0,0]' examples/small_net.py",
            ),
            (say("Why all scalars vanish or explode together:"), "seismograd lab chain"),
        ),
    )
