"""What the records of two runs say about why their gradients differ in a step."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from seismograd.i18n import Message, say
from seismograd.schema import AnyArray
from seismograd.views.parity.known_factors import NEAR
from seismograd.views.parity.parameter_parity import Difference, ParameterParity
from seismograd.views.parity.step_gradients import StepGradients
from seismograd.views.parity.tolerance import Tolerance


def clues_of(
    at: tuple[StepGradients, StepGradients],
    parameters: Sequence[ParameterParity],
    tolerance: Tolerance,
    factor: float,
) -> Iterator[Message]:
    """Yield a sentence on each thing that is known: the weights, the losses, the rates, the
    reduction, and where numbers only lie elsewhere. `factor`: that of all gradients, or NaN.
    """
    first, second = at
    several = {p.name for p in parameters if p.difference is Difference.SHAPE}
    yield from _weights(first, second, tolerance, several)
    yield from _losses(first, second, tolerance, factor)
    yield from _rates(first, second)
    sides = (first, say("the first run")), (second, say("the second run"))
    left_out = next((p for p in reversed(parameters) if _is_left_out(p, at)), None)
    if left_out is not None:
        number, count = left_out.several
        yield say(
            "{count} processes of {which} each have a gradient and weights of their own for "
            "{name}: it is left out of the reduction over them, or it is an expert or a shard "
            "there",
            count=count,
            which=sides[number][1],
            name=left_out.name,
        )
        return
    for side, which in sides:
        if _is_not_reduced(side.ranks):
            yield say(
                "the processes of {which} hold different gradients of the same parameters: "
                "the reduction over them is missing",
                which=which,
            )
    moved = [each for each in parameters if each.difference is Difference.MOVED]
    if moved:
        each = moved[0]
        shapes = each.first.parameter.shape, each.second.parameter.shape
        yield (
            say(
                "{name} has the same numbers in the shapes {first} and {second}: it is transposed "
                "in one of the runs",
                name=each.name,
                first=str(shapes[0]),
                second=str(shapes[1]),
            )
            if shapes[0] != shapes[1]
            else say(
                "{name} has the same norm, largest scalar and sum, in another order: a shard is "
                "transposed, or shards are put together in another order",
                name=each.name,
            )
        )
    for each in parameters:
        if each.difference is Difference.SHAPE:
            yield say(
                "{name} has the shape {first} in the first run and {second} in the second",
                name=each.name,
                first=str(each.first.parameter.shape),
                second=str(each.second.parameter.shape),
            )
            return


def _is_left_out(each: ParameterParity, at: tuple[StepGradients, StepGradients]) -> bool:
    """Return whether several processes of one run have a tensor of their own of the parameter."""
    number, count = each.several
    return each.difference is Difference.SHAPE and number >= 0 and count <= at[number].num_ranks


def _weights(
    first: StepGradients, second: StepGradients, tolerance: Tolerance, several: Collection[str]
) -> Iterator[Message]:
    for name, norm in first.weight_norms.items():
        other = second.weight_norms.get(name, math.nan)
        if name in several:
            continue  # of more tensors, so that its norm is larger
        if abs(norm - other) > tolerance.norm * max(norm, other):
            yield say(
                "the weights differ before this step already: the norm of {name} is {first:.6g} "
                "and {second:.6g}",
                name=name,
                first=norm,
                second=other,
            )
            return


def _losses(
    first: StepGradients, second: StepGradients, tolerance: Tolerance, factor: float
) -> Iterator[Message]:
    one, other = float(first.entry["loss"]), float(second.entry["loss"])
    if not (math.isfinite(one) and math.isfinite(other)):
        return
    size = max(abs(one), abs(other))
    if abs(one - other) <= tolerance.norm * size:
        yield say("the losses are the same there: {loss:.6g}", loss=one)
    elif factor > 0 and abs(one - factor * other) <= max(tolerance.norm, NEAR) * size:
        yield say(
            "the losses differ by the same factor: {first:.6g} and {second:.6g}",
            first=one,
            second=other,
        )
    elif abs(one * _micro(second) - other * _micro(first)) <= NEAR * abs(one) * _micro(second):
        yield say(
            "the losses differ by the number of micro-batches alone: {first:.6g} and {second:.6g}",
            first=one,
            second=other,
        )
    else:
        yield say(
            "the losses differ too: {first:.6g} and {second:.6g}; the data, the weights or the "
            "forward pass are not the same",
            first=one,
            second=other,
        )


def _micro(side: StepGradients) -> int:
    return max(1, int(side.entry["num_backwards"]))


def _rates(first: StepGradients, second: StepGradients) -> Iterator[Message]:
    one, other = float(first.entry["lr"]), float(second.entry["lr"])
    if math.isfinite(one) and math.isfinite(other) and abs(one - other) > NEAR * max(one, other):
        yield say(
            "the learning rates differ: {first:.4g} and {second:.4g}", first=one, second=other
        )


def _is_not_reduced(ranks: AnyArray) -> bool:
    """Return whether processes that hold the same parameters have gradients of other norms."""
    for replica in set(ranks["replica_of"].tolist()) - {-1}:
        norms = ranks["grad_norm"][ranks["replica_of"] == replica]
        norms = norms[np.isfinite(norms)]
        if len(norms) > 1 and float(np.ptp(norms)) > 1e-4 * float(norms.max()):
            return True
    return False
