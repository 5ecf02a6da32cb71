"""The page of the experiment losses."""

from __future__ import annotations

import math

from seismograd.i18n import say
from seismograd.lab.lab_page import Chart, ChartSeries, Page, PageTable, Paragraph, number
from seismograd.lab.measurements.losses_experiment import BATCH, WEIGHTS, LossesResult


def describe(found: LossesResult) -> Page:
    """Return the page that describes the results."""
    shared = found.parameters[0]
    small, large = found.combined[0], found.combined[-1]
    return Page(
        say("Several losses: one gradient made of many"),
        (
            Paragraph(
                say(
                    "A network with a shared layer learns two things from {batch} images: which "
                    "digit it is, and how much ink it took. The gradient of the sum of the losses "
                    "is the sum of their gradients (error {sum_error:.0e}), and two backward "
                    "passes in turn add up to one backward pass of the sum (error "
                    "{apart_error:.0e}). Which way to choose is a matter of memory and taste.",
                    batch=BATCH,
                    sum_error=found.sum_error,
                    apart_error=found.apart_error,
                )
            ),
            PageTable(
                (say("parameter"), say("norm, digit"), say("norm, ink"), say("cosine")),
                [
                    *(
                        (
                            p.name,
                            *(number(norm) if norm else say("no gradient") for norm in p.norms),
                            _cosine(p.cosine),
                        )
                        for p in found.parameters
                    ),
                    (
                        say("total"),
                        number(found.norms[0]),
                        number(found.norms[1]),
                        _cosine(found.cosine),
                    ),
                ],
            ),
            Paragraph(
                say(
                    "In {name} both losses contribute. The cosine shows whether their gradients "
                    "point in the same direction (1), are perpendicular (0) or opposite (-1); here "
                    "it is {cosine:.3f}. The norms show which loss dominates: the gradient of the "
                    "ink loss is {ratio:.3g} times as large as that of the digit loss.",
                    name=shared.name,
                    cosine=shared.cosine,
                    ratio=found.norms[1] / found.norms[0],
                )
            ),
            Chart(
                say(
                    "Cosine between the total gradient and that of the digit loss, by the weight "
                    "of the other loss"
                ),
                say("weight of the ink loss, as a power of ten"),
                (
                    ChartSeries(
                        say("cosine"), [math.log10(weight) for weight in WEIGHTS], found.combined
                    ),
                ),
            ),
            Paragraph(
                say(
                    "digit + {least:g} × ink points in the direction of the digit loss alone "
                    "({small:.4f}); digit + {most:g} × ink hardly does ({large:.4f}). What counts "
                    "is not the weight of a loss alone, but its weight times the norm of its "
                    "gradient.",
                    least=WEIGHTS[0],
                    most=WEIGHTS[-1],
                    small=small,
                    large=large,
                )
            ),
        ),
        say(
            "The gradient of a sum of losses is the sum of their gradients: what counts is each "
            "loss's weight times its gradient's norm, and whether they point the same way."
        ),
        (
            (
                say("In your own loop; the norms and cosines of some steps are recorded:"),
                "with seismograd.watch(model, optimizer) as session:\n"
                "    …\n"
                "    seismograd.losses(session, digit=loss1, ink=loss2).backward()",
            ),
            (
                say("How conflicting losses are found in a training run:"),
                "seismograd explain SG601",
            ),
        ),
    )


def _cosine(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
