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


# What multiplies the loss multiplies its gradients, but what is done to gradients only does not
# multiply the loss.
OF_THE_LOSS = frozenset({"accumulation", "loss_terms", "two"})


def explained(
    ratio: float, first: StepGradients, second: StepGradients, near: float = NEAR
) -> tuple[KnownFactor, ...]:
    """Return the known factors that this ratio is; of equal ones those that also fit the losses,
    or all, since each may be it.
    """
    if not ratio > 0:
        return ()

    def fits(found: float, value: float) -> bool:
        return found > 0 and abs(math.log(found / value)) <= max(near, NEAR)

    known = [each for each in _candidates(first, second) if fits(ratio, each.value)]
    losses = float(first.entry["loss"]) / float(second.entry["loss"] or math.nan)
    likely = [
        each
        for each in known
        if not (fits(losses, 1.0) if each.code in OF_THE_LOSS else fits(losses, each.value))
    ]
    return tuple(likely or known)


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
        if ranks > 1 and micro > 1:
            yield KnownFactor(
                (ranks * micro) ** sign,
                "world_size_and_accumulation",
                say(
                    "the number of processes times that of micro-batches of {which}, {ranks} × "
                    "{micro}: it divides by neither",
                    which=which,
                    ranks=ranks,
                    micro=micro,
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
    yield from _of_terms(first, second)
    for value in (2.0, 0.5):
        yield KnownFactor(
            value,
            "two",
            say("a factor of two, as between (x − y)² and ½ (x − y)², or a loss counted twice"),
        )


def _of_terms(first: StepGradients, second: StepGradients) -> Iterator[KnownFactor]:
    """Yield the factor between what a term of the loss counts in both, in the mean over processes
    that have data of their own.
    """
    counts = first.num_data_ranks, second.num_data_ranks
    weights = first.term_weight / counts[0], second.term_weight / counts[1]
    if not (weights[0] > 0 and weights[1] > 0):
        return
    if abs(math.log(weights[0] / weights[1])) <= NEAR:
        return
    yield KnownFactor(
        weights[0] / weights[1],
        "loss_terms",
        say(
            "what a term counts in the mean of the losses of all processes, {first:.4g} and "
            "{second:.4g}: one is a sum where the other is a mean, or they are divided by other "
            "numbers",
            first=weights[0],
            second=weights[1],
        )
        if max(counts) > 1
        else say(
            "what a term counts in the losses, {first:.4g} and {second:.4g}: one is a sum "
            "where the other is a mean, or they are divided by other numbers",
            first=weights[0],
            second=weights[1],
        ),
    )
