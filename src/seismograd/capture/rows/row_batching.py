"""Choose the iterations that become rows together: for NumPy many are hardly more work than one."""

from __future__ import annotations

from collections.abc import Sequence

from seismograd.capture.loop.iteration import GradientReading, Iteration
from seismograd.capture.rows.row_columns import is_one_reading


def batches_of(iterations: Sequence[Iteration]) -> list[list[Iteration]]:
    """Split where one iteration cannot be batched with the previous one."""
    batches: list[list[Iteration]] = []
    simple_before = False
    for each in iterations:
        simple = _is_simple(each)
        if simple and simple_before and _can_be_batched(batches[-1][-1], each):
            batches[-1].append(each)
        else:
            batches.append([each])
        simple_before = simple
    return batches


def _is_simple(iteration: Iteration) -> bool:
    step = iteration.steps[0]
    if iteration.compared or step.applied is not None or not is_one_reading(iteration):
        return False
    return (
        step.reading is not None
        and step.reading.present is None
        and (step.probed is None or not step.probed.waiting)
    )


def _can_be_batched(one: Iteration, other: Iteration) -> bool:
    first, second = one.steps[0].reading, other.steps[0].reading
    assert first is not None
    assert second is not None
    return (
        one.parameters is other.parameters
        and first.numels is second.numels
        and _same_samples(first, second)
    )


def _same_samples(one: GradientReading, other: GradientReading) -> bool:
    return not one.samples or not other.samples or one.samples.keys() == other.samples.keys()
