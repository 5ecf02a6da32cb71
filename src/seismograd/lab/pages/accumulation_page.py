"""The page of the experiment accumulation."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.lab.lab_page import Chart, ChartSeries, Page, PageTable, Paragraph, number
from seismograd.lab.measurements.accumulation_experiment import (
    LABELLED,
    AccumulationError,
    AccumulationResult,
)


def describe(found: AccumulationResult) -> Page:
    """Return the page that describes the results."""
    ways: list[tuple[Message, AccumulationError]] = [
        (say("4 × 32, each loss / 4"), found.equal),
        (say("4 × 32, not divided"), found.undivided),
        (say("100 samples: 32, 32, 32, 4, each loss / 4"), found.short_by_count),
        (say("the same, weighted by samples"), found.short_exact),
        (
            say("{labels} labels, each loss / 4", labels=", ".join(map(str, LABELLED))),
            found.uneven_by_count,
        ),
        (say("the same, weighted by labels"), found.uneven_exact),
    ]
    return Page(
        say("Accumulation: four small batches in place of one large batch"),
        (
            Paragraph(
                say(
                    "backward() adds to .grad, so the gradients of 4 micro-batches of 32 add up to "
                    "the gradient of one batch of 128, provided that the sum is weighted like the "
                    "mean over that batch. Each row compares one way of accumulating with the "
                    "gradient of the whole batch.",
                )
            ),
            PageTable(
                (say("method"), say("relative error"), say("norm / correct norm"), say("cosine")),
                [
                    (name, f"{each.error:.1e}", f"{each.ratio:.4f}", f"{each.cosine:.6f}")
                    for name, each in ways
                ],
            ),
            Chart(
                say("Distance from the gradient of the whole batch"),
                say("norm of the difference / norm, logarithmic axis"),
                (
                    ChartSeries(
                        say("relative error"), range(len(ways)), [each.error for _, each in ways]
                    ),
                ),
                "bars",
                log=True,
                labels=[name for name, _ in ways],
            ),
            Paragraph(
                say(
                    "With each loss divided by 4, the result is equal up to rounding "
                    "({equal:.0e}). Without the division the gradient is {undivided:.4f} times as "
                    "large, which for SGD is the same as a learning rate that many times as large. "
                    "If a short last micro-batch of 4 samples counts as much as one of 32, the "
                    "gradient is off by {short:.0%}; with uneven numbers of labels or tokens, by "
                    "{uneven:.0%}: a mean of means is not the overall mean. If each loss is "
                    "weighted by the number of items it averages over, both cases are correct "
                    "again ({short_exact:.0e}, {uneven_exact:.0e}).",
                    equal=found.equal.error,
                    undivided=found.undivided.ratio,
                    short=found.short_by_count.error,
                    uneven=found.uneven_by_count.error,
                    short_exact=found.short_exact.error,
                    uneven_exact=found.uneven_exact.error,
                )
            ),
            Paragraph(
                say(
                    "Why accumulate: between forward and backward, autograd keeps {whole:,} bytes "
                    "besides the weights for a batch of 128, but at most {parts:,} for a "
                    "micro-batch of 32, which is {share} times as much.",
                    whole=found.held_whole,
                    parts=found.held_parts,
                    share=number(found.held_parts / found.held_whole, 3),
                )
            ),
        ),
        say(
            "backward() adds, so small batches make a large one, if each loss is weighted by its "
            "share of the items."
        ),
        (
            (
                say("In your own loop, exact in all of these cases:"),
                "for window in seismograd.accumulate(loader, 4, model=model, "
                "optimizer=optimizer):\n"
                "    for inputs, targets in window:\n"
                "        window.backward(criterion(model(inputs), targets), "
                "weight=targets.numel())\n"
                "    window.step(max_norm=1.0)",
            ),
            (
                say(
                    "Why gradients are accumulated at all, and what happens if they are not "
                    "cleared:"
                ),
                "seismograd lab zero-grad",
            ),
        ),
    )
