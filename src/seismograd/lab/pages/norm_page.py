"""The page of the experiment norm."""

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
from seismograd.lab.measurements.norm_experiment import (
    BATCH,
    FACTOR,
    NARROW,
    SMALL_BATCH,
    STEPS,
    WIDE,
    WIDTH,
    NormResult,
    Variant,
)


def describe(found: NormResult) -> Page:
    """Return the page that describes the results."""
    return Page(
        say("Is my norm healthy? And what a norm hides"),
        (
            *_no_absolute_number(found),
            *_dead_layer(found),
        ),
        say(
            "A norm is only healthy or sick compared with something: its neighbours, its past, "
            "its weight."
        ),
        (
            (
                say("Every parameter's norm of your own run, layer by layer:"),
                "seismograd run train.py\nseismograd show",
            ),
            (say("How a dead layer is found in a training run:"), "seismograd explain SG104"),
        ),
    )


def _no_absolute_number(found: NormResult) -> tuple[Block, ...]:
    return (
        Heading(say("No absolute number is healthy")),
        Paragraph(
            say(
                "Each row is the same small network on the same digits, trained with Adam for "
                "{steps} steps. All of them learn. Their norms differ by a factor of "
                "{factor:,.0f}.",
                steps=STEPS,
                factor=found.scaled_up.norm / found.scaled_down.norm,
            )
        ),
        _variants(found),
        Paragraph(
            say(
                "The loss times {scale:,.0f} has a gradient of exactly {scale:,.0f} times the "
                "norm, and Adam makes the same steps of it: the loss goes to {up:.3f} instead "
                "of {plain:.3f}. A small batch is noisier, so its norm is larger; a wide "
                "layer has more scalars to add up. So 0.001 does not mean vanishing, and "
                "1,000 does not mean exploding. What means something is a comparison: of a "
                "layer with the other layers, of a step with the steps before it, of an "
                "update with the weight it changes.",
                scale=FACTOR,
                up=found.scaled_up.last_loss,
                plain=found.plain.last_loss,
            )
        ),
    )


def _dead_layer(found: NormResult) -> tuple[Block, ...]:
    return (
        Heading(say("A dead layer under a usual norm")),
        Paragraph(
            say(
                "Two networks of three layers. In the second, no unit of the first layer ever "
                "gives anything but zero, so nothing reaches its weights. The whole norm "
                "does not show it: it is {dead:.3g} instead of {alive:.3g}, a number like "
                "any other. The norms of the single parameters do.",
                dead=found.dead.total,
                alive=found.alive.total,
            )
        ),
        _layers(found),
        Chart(
            say("Norm of each parameter's gradient with the dead layer"),
            say("norm"),
            (
                ChartSeries(
                    say("norm"),
                    range(len(found.dead.norms) + 1),
                    [*found.dead.norms.values(), found.dead.total],
                ),
            ),
            "bars",
            labels=(*found.dead.norms, say("whole norm")),
        ),
        Paragraph(
            say(
                "After {steps} steps the first network's loss is {alive:.2f}, the second's "
                "{dead:.2f}: a guess among ten digits is 2.30. This is why the norm is "
                "recorded for each parameter, and beside it the share of scalars that are "
                "exactly zero.",
                steps=STEPS,
                alive=found.alive.last_loss,
                dead=found.dead.last_loss,
            )
        ),
    )


def _variants(found: NormResult) -> PageTable:
    rows: list[tuple[Message, Variant]] = [
        (say("as it is"), found.plain),
        (say("the loss × {factor:,.0f}", factor=FACTOR), found.scaled_up),
        (say("the loss / {factor:,.0f}", factor=FACTOR), found.scaled_down),
        (
            say("batches of {few} instead of {batch}", few=SMALL_BATCH, batch=BATCH),
            found.small_batch,
        ),
        (say("{narrow} units instead of {width}", narrow=NARROW, width=WIDTH), found.narrow),
        (say("{narrow} units instead of {width}", narrow=WIDE, width=WIDTH), found.wide),
    ]
    return PageTable(
        (
            say("training"),
            say("norm (median)"),
            say("loss, first step"),
            say("loss, last steps"),
        ),
        [
            (name, number(each.norm, 3), f"{each.first_loss:.3f}", f"{each.last_loss:.3f}")
            for name, each in rows
        ],
    )


def _layers(found: NormResult) -> PageTable:
    return PageTable(
        (say("parameter"), say("norm, healthy"), say("norm, first layer dead")),
        [
            *(
                (name, number(norm, 3), number(found.dead.norms[name], 3))
                for name, norm in found.alive.norms.items()
            ),
            (say("whole norm"), number(found.alive.total, 3), number(found.dead.total, 3)),
        ],
    )
