"""The page of the experiment chain."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.lab.lab_page import (
    Block,
    Chart,
    ChartSeries,
    Heading,
    Page,
    PageTable,
    Paragraph,
    number,
)
from seismograd.lab.measurements.chain_experiment import (
    DEEP,
    DEPTHS,
    GAINS,
    KINDS_DEPTH,
    WIDTH,
    ChainResult,
    LayerKindResult,
    end_ratio,
)


def describe(found: ChainResult) -> Page:
    """Return the page that describes the results."""
    return Page(
        say("The chain rule: a gradient is a product over the layers"),
        (
            *_depths(found),
            *_scalars(found),
            *_factors(found),
            *_activations(found),
            *_clipping(found),
        ),
        say(
            "A gradient is a product over the layers: factors below 1 make all its scalars vanish, "
            "factors above 1 make them explode, and the norm shows both."
        ),
        (
            (
                say("Where your own network multiplies the gradient, and by how much:"),
                "seismograd run train.py\nseismograd view",
            ),
            (say("How vanishing is diagnosed:"), "seismograd explain SG101"),
        ),
    )


def _depths(found: ChainResult) -> tuple[Block, ...]:
    at = {(each.gain, each.depth): each for each in found.linear}
    worst = max(abs(each.arrived / each.predicted - 1) for each in found.linear)
    return (
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
                *(head for gain in GAINS for head in (say("gain {gain}", gain=gain), f"{gain}^n")),
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
    )


def _scalars(found: ChainResult) -> tuple[Block, ...]:
    at = {(each.gain, each.depth): each for each in found.linear}
    return (
        Heading(say("One scalar or the norm?")),
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
    )


def _factors(found: ChainResult) -> tuple[Block, ...]:
    return (
        Heading(say("What a factor is: singular values")),
        Paragraph(
            say(
                "Backward multiplies the gradient by each layer's weight matrix. A matrix "
                "stretches different directions differently: between its smallest and its "
                "largest singular value. Over all directions the length is multiplied by the "
                "root mean square of the singular values, and that is the factor of the "
                "product. An orthogonal matrix has only one: it rotates, and stretches all "
                "directions alike. Eigenvalues are only the stretch along directions that the "
                "matrix does not turn, so they say less."
            )
        ),
        PageTable(
            (
                say("weights, {width} × {width}", width=WIDTH),
                say("smallest singular value"),
                say("median"),
                say("largest"),
                say("largest |eigenvalue|"),
                say("root mean square"),
                say("factor measured"),
            ),
            [
                (
                    each.name,
                    *(number(value, 3) for value in each.singular),
                    number(each.eigen[1], 3),
                    f"{each.predicted:.4f}",
                    f"{each.measured:.4f}",
                )
                for each in found.factors
            ],
        ),
    )


def _activations(found: ChainResult) -> tuple[Block, ...]:
    kinds = {each.name: each for each in found.kinds}
    return (
        Heading(say("With activations")),
        Paragraph(_of_activations(kinds)),
        PageTable(
            (
                say("{depth} layers of", depth=KINDS_DEPTH),
                say("first layer / last layer"),
                say("factor per layer"),
            ),
            [(each.name, number(each.ratio, 3), f"× {each.per_layer:.3f}") for each in found.kinds],
        ),
    )


def _clipping(found: ChainResult) -> tuple[Block, ...]:
    return (
        Heading(say("What clipping can do about it")),
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
                ratio_before=end_ratio(found.clipped_before),
                ratio_after=end_ratio(found.clipped_after),
            )
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
