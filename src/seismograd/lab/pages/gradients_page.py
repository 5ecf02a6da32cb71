"""The page of the experiment gradients."""

from __future__ import annotations

from seismograd.i18n import say
from seismograd.lab.lab_page import (
    Block,
    Chart,
    ChartSeries,
    CodeBlock,
    Heading,
    Page,
    PageTable,
    Panel,
    Paragraph,
    Picture,
    number,
)
from seismograd.lab.measurements.gradients_experiment import (
    BATCH,
    CORNER,
    LEARNING_RATE,
    STEP,
    GradientsResult,
)

SHAPES = """>>> net.fc1.weight.grad.shape == net.fc1.weight.shape
True"""
SCALARS_ON_A_SCREEN = 40 * 10  # lines, and numbers in a line
UPDATED_SHOWN = 4  # scalars in the table of the update


def describe(found: GradientsResult) -> Page:
    """Return the page that describes the results."""
    return Page(
        say("What a gradient is: a tensor with the shape of its parameter"),
        (
            *_shape(found),
            *_printed(found),
            *_slopes(found),
            *_update(found),
            *_spread(found),
        ),
        say(
            "A gradient is a tensor of its parameter's shape: one derivative for each weight, and "
            "the norm is their common size."
        ),
        (
            (
                say("The same for your own training, one scalar at every step:"),
                "seismograd run --element 'fc1.weight[0,0]' train.py",
            ),
            (say("Why all scalars vanish or explode together:"), "seismograd lab chain"),
        ),
    )


def _shape(found: GradientsResult) -> tuple[Block, ...]:
    first = found.parameters[0]
    return (
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
        CodeBlock(SHAPES),
    )


def _printed(found: GradientsResult) -> tuple[Block, ...]:
    first = found.parameters[0]
    largest = found.scalars[0]
    return (
        Heading(say("Why a print shows a shape and a norm, and not the scalars")),
        Paragraph(
            say(
                "Printed whole, {count:,} scalars would fill about {pages:,} screens. So torch "
                "prints the corners of a large tensor and dots between them, and a training "
                "script prints the shape, which says how many scalars there are, and the norm, "
                "which says how large they are together. Here even the corners say nothing: they "
                "belong to pixels that are always black, so all of them are zero.",
                count=first.count,
                pages=round(first.count / SCALARS_ON_A_SCREEN),
            )
        ),
        CodeBlock(f">>> net.fc1.weight.grad\n{found.printed}"),
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
        Picture(
            say(
                "The gradient of the {count} weights of unit {unit}, where their pixels are",
                count=len(found.unit_gradient) * len(found.unit_gradient[0]),
                unit=found.unit,
            ),
            (Panel(f"fc1.weight.grad[{found.unit}]", found.unit_gradient),),
        ),
    )


def _slopes(found: GradientsResult) -> tuple[Block, ...]:
    shown = {scalar.parameter: scalar for scalar in reversed(found.scalars)}
    worst = max(abs(each.double - each.slope) / abs(each.double) for each in found.scalars)
    return (
        Heading(say("Is it really the slope?")),
        Paragraph(
            say(
                "Move one weight by {step:g} in either direction and "
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
    )


def _update(found: GradientsResult) -> tuple[Block, ...]:
    return (
        Heading(say("Why it comes as a tensor: one update for all weights")),
        Paragraph(
            say(
                "A tensor of the same shape can be subtracted as a whole: SGD computes W - lr "
                "· G, and every weight moves by its own derivative. Here lr is {lr:g}; after "
                "optimizer.step() no weight of the network differs from W - lr · G by more "
                "than {error:.0e}.",
                lr=LEARNING_RATE,
                error=found.block.error,
            )
        ),
        Picture(
            say("The first {columns} columns of fc2.weight, in one step", columns=CORNER),
            (
                Panel("W", found.block.weight),
                Panel("G = W.grad", found.block.gradient),
                Panel("W - lr · G", found.block.updated),
            ),
        ),
        PageTable(
            (say("scalar"), "W", "G", "W - lr · G"),
            [
                (
                    f"fc2.weight[0, {column}]",
                    f"{found.block.weight[0][column]:.6f}",
                    f"{found.block.gradient[0][column]:.6f}",
                    f"{found.block.updated[0][column]:.6f}",
                )
                for column in range(UPDATED_SHOWN)
            ],
        ),
    )


def _spread(found: GradientsResult) -> tuple[Block, ...]:
    first = found.parameters[0]
    low, middle, high = found.quantiles
    return (
        Heading(say("How the scalars are spread")),
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
            (ChartSeries(say("scalars"), list(found.exponents), list(found.exponents.values())),),
            "bars",
            log=True,
            labels=tuple(f"1e{k:+03d}" for k in found.exponents),
        ),
    )
