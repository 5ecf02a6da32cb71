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
    """Yield what each run may do that the other does not; the second's factors are reciprocals."""
    yield from _of_run(first, 1.0, say("the first run"))
    yield from _of_run(second, -1.0, say("the second run"))
    weights = first.term_weight, second.term_weight
    if weights[0] > 0 and weights[1] > 0 and abs(math.log(weights[0] / weights[1])) > NEAR:
        reason = say(
            "what a term counts in the losses, {first:.4g} and {second:.4g}: one is a sum "
            "where the other is a mean, or they are divided by other numbers",
            first=weights[0],
            second=weights[1],
        )
        yield KnownFactor(weights[0] / weights[1], "loss_terms", reason)
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
    if scale > 0 and scale != 1:
        yield from _both_ways(scale**sign, "loss_scale", which, scale=f"{scale:g}")


def _both_ways(
    factor: float, code: str, which: Message, **values: int | str
) -> Iterator[KnownFactor]:
    too_large, too_small = _REASONS[code]
    yield KnownFactor(factor, code, Message(too_large, {"which": which, **values}))
    yield KnownFactor(1 / factor, code, Message(too_small, {"which": which, **values}))
