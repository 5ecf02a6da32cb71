"""The factors by which the gradients of two runs differ when something is summed where the other
averages, or divided once too often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from seismograd.i18n import Message, say
from seismograd.views.parity.step_gradients import StepGradients

NEAR = 1e-3  # of a factor and its name, relative


@dataclass(frozen=True, slots=True)
class KnownFactor:
    """A factor, first / second, and what it would come from. `code` names its kind in JSON."""

    value: float
    code: str
    reason: Message


def explained(
    ratio: float, first: StepGradients, second: StepGradients, near: float = NEAR
) -> tuple[KnownFactor, ...]:
    """Return the known factors that this ratio is; of equal ones all, since each may be it."""
    if not ratio > 0:
        return ()
    return tuple(
        each
        for each in _candidates(first, second)
        if abs(math.log(ratio / each.value)) <= max(near, NEAR)
    )


def _candidates(first: StepGradients, second: StepGradients) -> Iterator[KnownFactor]:
    sides = (
        (first, 1.0, say("the first run")),
        (second, -1.0, say("the second run")),
    )
    for side, sign, which in sides:
        ranks, micro = side.num_ranks, int(side.entry["num_backwards"])
        if ranks > 1:
            yield KnownFactor(
                ranks**sign,
                "world_size",
                say(
                    "the number of processes of {which}, {count}: it sums over them where "
                    "the other one averages",
                    which=which,
                    count=ranks,
                ),
            )
            yield KnownFactor(
                ranks**-sign,
                "world_size",
                say(
                    "the number of processes of {which}, {count}: it divides by it once "
                    "more than the other one",
                    which=which,
                    count=ranks,
                ),
            )
        if micro > 1:
            yield KnownFactor(
                micro**sign,
                "accumulation",
                say(
                    "the number of micro-batches of {which}, {count}: its losses are not "
                    "divided by it",
                    which=which,
                    count=micro,
                ),
            )
            yield KnownFactor(
                micro**-sign,
                "accumulation",
                say(
                    "the number of micro-batches of {which}, {count}: its losses are "
                    "divided by it once more than those of the other one",
                    which=which,
                    count=micro,
                ),
            )
        scale = float(side.entry["scale"])
        if scale > 0 and scale != 1:
            yield KnownFactor(
                scale**-sign,
                "loss_scale",
                say(
                    "the loss scale of {which}, {scale}: it is divided out of gradients "
                    "that were not multiplied by it",
                    which=which,
                    scale=f"{scale:g}",
                ),
            )
            yield KnownFactor(
                scale**sign,
                "loss_scale",
                say(
                    "the loss scale of {which}, {scale}: its gradients still have it",
                    which=which,
                    scale=f"{scale:g}",
                ),
            )
    weights = first.term_weight, second.term_weight
    if weights[0] > 0 and weights[1] > 0 and abs(math.log(weights[0] / weights[1])) > NEAR:
        yield KnownFactor(
            weights[0] / weights[1],
            "loss_terms",
            say(
                "what a term counts in the losses, {first:.4g} and {second:.4g}: one is a sum "
                "where the other is a mean, or they are divided by other numbers",
                first=weights[0],
                second=weights[1],
            ),
        )
    for value in (2.0, 0.5):
        yield KnownFactor(
            value,
            "two",
            say("a factor of two, as between (x − y)² and ½ (x − y)², or a loss counted twice"),
        )
