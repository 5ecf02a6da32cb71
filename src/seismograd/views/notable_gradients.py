"""Select the gradients that get a row when there are too many."""

from __future__ import annotations

from seismograd.schema import State
from seismograd.views.step import (
    GradientNumbers,
    RecordedStep,
)

_MOST_GRADIENTS = 12


def notable_gradients(step: RecordedStep) -> tuple[GradientNumbers, ...]:
    """Return those that are not finite, then the largest and the smallest, in their order."""
    if len(step.gradients) <= _MOST_GRADIENTS:
        return step.gradients
    unusual = [each for each in step.gradients if each.state != State.FINITE][
        : _MOST_GRADIENTS // 2
    ]
    usual = sorted(
        (each for each in step.gradients if each.state == State.FINITE), key=lambda each: each.rms
    )
    room = _MOST_GRADIENTS - len(unusual)
    chosen = [*unusual, *usual[: room // 2], *usual[len(usual) - (room - room // 2) :]]
    names = {each.parameter.name for each in chosen}
    return tuple(each for each in step.gradients if each.parameter.name in names)
