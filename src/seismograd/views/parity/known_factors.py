"""The factors by which the gradients of two runs differ when something is summed where the other
averages, or divided once too often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from seismograd.i18n import Message, mark, say
from seismograd.views.parity.step_gradients import StepGradients

NEAR = 1e-3  # of a factor and its name, relative


# by code: what multiplies the gradients of a run, and what divides them
_REASONS = {
    "world_size": (
        mark(
            "the number of processes of {which}, {count}: it sums over them where the other one "
            "averages"
        ),
        mark(
            "the number of processes of {which}, {count}: it divides by it once more than the "
            "other one"
        ),
    ),
    "accumulation": (
        mark("the number of micro-batches of {which}, {count}: its losses are not divided by it"),
        mark(
            "the number of micro-batches of {which}, {count}: its losses are divided by it once "
            "more than those of the other one"
        ),
    ),
    "loss_scale": (
        mark("the loss scale of {which}, {scale}: its gradients still have it"),
        mark(
            "the loss scale of {which}, {scale}: it is divided out of gradients that were not "
            "multiplied by it"
        ),
    ),
}


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
    """Yield what each run may do that the other does not; the second's factors are reciprocals."""
    yield from _of_run(first, 1.0, say("the first run"))
    yield from _of_run(second, -1.0, say("the second run"))
    yield from _of_terms(first, second)
    two = say("a factor of two, as between (x − y)² and ½ (x − y)², or a loss counted twice")
    yield KnownFactor(2.0, "two", two)
    yield KnownFactor(0.5, "two", two)


def _of_run(side: StepGradients, sign: float, which: Message) -> Iterator[KnownFactor]:
    """Yield the numbers of one run by which its gradients may be too large, or too small."""
    num_ranks, num_micro = side.num_ranks, int(side.entry["num_backwards"])
    scale = float(side.entry["scale"])
    if num_ranks > 1:
        yield from _both_ways(num_ranks**sign, "world_size", which, count=num_ranks)
    if num_micro > 1:
        yield from _both_ways(num_micro**sign, "accumulation", which, count=num_micro)
    if num_ranks > 1 and num_micro > 1:
        yield KnownFactor(
            (num_ranks * num_micro) ** sign,
            "world_size_and_accumulation",
            say(
                "the number of processes times that of micro-batches of {which}, {ranks} × "
                "{micro}: it divides by neither",
                which=which,
                ranks=num_ranks,
                micro=num_micro,
            ),
        )
    if scale > 0 and scale != 1:
        yield from _both_ways(scale**sign, "loss_scale", which, scale=f"{scale:g}")


def _both_ways(
    factor: float, code: str, which: Message, **values: int | str
) -> Iterator[KnownFactor]:
    too_large, too_small = _REASONS[code]
    yield KnownFactor(factor, code, Message(too_large, {"which": which, **values}))
    yield KnownFactor(1 / factor, code, Message(too_small, {"which": which, **values}))


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
