"""Compare a fingerprint with the one that was pinned: which gradient differs first, and by what.

Shapes: K steps, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seismograd.golden.differences import QUANTITIES, Allowed
from seismograd.golden.fingerprint import Fingerprint, known
from seismograd.i18n import Message, say
from seismograd.schema import BoolArray, FloatArray, State
from seismograd.views.values import number, some, state_word

_SAME_FACTOR = 1e-3  # relative: then the gradients of a step differ by one factor


@dataclass(frozen=True, slots=True)
class Pinned:
    """A fingerprint, and how far from it another may be."""

    fingerprint: Fingerprint
    allowed: Allowed


def differing(pinned: Pinned, other: Fingerprint) -> Iterator[Message]:
    """Yield what there is to say about another fingerprint of the same steps; nothing where the
    gradients are the same.
    """
    reference = pinned.fingerprint
    names, others = ([p.name for p in each.parameters] for each in (reference, other))
    missing, added = (
        [name for name in one if name not in set(two)]
        for one, two in ((names, others), (others, names))
    )
    if missing:
        yield say(
            "parameters that were pinned and have no gradient now: {names}", names=some(missing)
        )
    if added:
        yield say("parameters that were not pinned: {names}", names=some(added))
    if missing or added:
        return
    other = _in_order(reference, other)
    shapes = zip(reference.parameters, other.parameters, strict=True)
    for one, two in shapes:
        if one.shape != two.shape:
            yield say(
                "{parameter} has the shape {now}, it was {then}",
                parameter=one.name,
                now=str(list(two.shape)),
                then=str(list(one.shape)),
            )
            return
    bad = {q.name: _beyond(pinned, other, q.name) for q in QUANTITIES} | {
        "state": _other_states(pinned, other)
    }
    anywhere = np.logical_or.reduce(list(bad.values()))  # (K, P)
    steps = np.flatnonzero(anywhere.any(axis=1))
    if not len(steps):
        yield from _not_compared(reference, other)
        return
    step = int(steps[0])
    columns = np.flatnonzero(anywhere[step])
    first = int(columns[0])
    which = next(
        name for name in ("state", *(q.name for q in QUANTITIES)) if bad[name][step, first]
    )
    yield _first(pinned, other, step, first, which)
    yield say(
        "at step {step}, {count} of {all} {num:parameter differs|parameters differ}",
        step=step,
        count=len(columns),
        all=len(names),
        num=len(names),
    )
    factors = _factors(reference, other, step)
    if len(columns) > 1 and len(factors) and factors.max() / factors.min() - 1 <= _SAME_FACTOR:
        yield say(
            "all of them by the same factor, {factor}: look at the loss, its reduction, or what "
            "the gradients are divided by",
            factor=number(float(np.median(factors)), 6),
        )


def _in_order(reference: Fingerprint, other: Fingerprint) -> Fingerprint:
    """Return the other one with its parameters in the order of the reference."""
    position = {each.name: column for column, each in enumerate(other.parameters)}
    columns = [position[each.name] for each in reference.parameters]
    return Fingerprint(
        other.torch_version,
        tuple(other.parameters[column] for column in columns),
        other.states[:, columns],
        other.norms[:, columns],
        other.zeros[:, columns],
        {step: values[columns] for step, values in other.exponents.items()},
        {step: values[columns] for step, values in other.sketches.items()},
    )


def _beyond(pinned: Pinned, other: Fingerprint, name: str) -> BoolArray:
    (quantity,) = (each for each in QUANTITIES if each.name == name)
    apart = quantity.differ(pinned.fingerprint, other)
    with np.errstate(invalid="ignore"):
        return np.asarray(apart > pinned.allowed[name])


def _other_states(pinned: Pinned, other: Fingerprint) -> BoolArray:
    """Where the states differ. Between zero and finite that is one of norms, which decides: what
    is rounding alone may be exactly zero elsewhere.
    """
    one, two = pinned.fingerprint.states, other.states
    numbers = [(each == State.ZERO) | (each == State.FINITE) for each in (one, two)]
    return np.asarray((one != two) & known(one) & known(two) & ~(numbers[0] & numbers[1]))


def _not_compared(reference: Fingerprint, other: Fingerprint) -> Iterator[Message]:
    """Say where nothing was measured: that is not the same gradient."""
    unknown = np.flatnonzero(known(reference.states).any(axis=1) & ~known(other.states).any(axis=1))
    if len(unknown):
        yield say("no gradient was measured at step {step}", step=int(unknown[0]))


def _first(pinned: Pinned, other: Fingerprint, step: int, column: int, which: str) -> Message:
    reference = pinned.fingerprint
    parameter = reference.parameters[column].name
    place = {"step": step, "parameter": parameter}
    if which == "state":
        then, now = (
            state_word(State(int(each.states[step, column]))) for each in (reference, other)
        )
        return say(
            "step {step}, the gradient of {parameter}: {now}, it was: {then}",
            now=now,
            then=then,
            **place,
        )
    allowed = number(float(pinned.allowed[which][step, column]), 2)
    then, now = float(reference.norms[step, column]), float(other.norms[step, column])
    if which == "norm":
        factor = now / then if then else math.inf
        return say(
            "step {step}, the gradient of {parameter}: {factor} times what it was (norm {now}, it "
            "was {then}; allowed difference: {allowed}, relative)",
            factor=number(factor, 6),
            now=number(now, 6),
            then=number(then, 6),
            allowed=allowed,
            **place,
        )
    (quantity,) = (each for each in QUANTITIES if each.name == which)
    apart = number(float(quantity.differ(reference, other)[step, column]), 2)
    if which == "sketch":
        return say(
            "step {step}, the gradient of {parameter}: other numbers or a sign, its norm is that "
            "of before ({apart} from what it was, relative; allowed: {allowed})",
            apart=apart,
            allowed=allowed,
            **place,
        )
    if which == "zeros":
        return say(
            "step {step}, the gradient of {parameter}: {now} zeros, it had {then} (allowed "
            "difference: a share of {allowed})",
            now=int(other.zeros[step, column]),
            then=int(reference.zeros[step, column]),
            allowed=allowed,
            **place,
        )
    return say(
        "step {step}, the gradient of {parameter}: its numbers are of other sizes, its norm is "
        "that of before (a share of {apart} is; allowed: {allowed})",
        apart=apart,
        allowed=allowed,
        **place,
    )


def _factors(reference: Fingerprint, other: Fingerprint, step: int) -> FloatArray:
    """Return now / then of the norms that both have, at a step."""
    one, two = reference.norms[step], other.norms[step]
    with np.errstate(invalid="ignore"):
        there = (one > 0) & (two > 0) & np.isfinite(one) & np.isfinite(two)
    return two[there] / one[there]
