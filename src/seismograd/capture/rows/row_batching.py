"""Choose the iterations that become rows together: for NumPy many are hardly more work than one."""

from __future__ import annotations

from collections.abc import Sequence

from seismograd.capture.loop.iteration import GradientReading, Iteration
from seismograd.capture.rows.columns_of_parts import is_of_parts
from seismograd.capture.rows.row_columns import is_one_reading


def batches_of(iterations: Sequence[Iteration]) -> list[list[Iteration]]:
    """Split where one iteration cannot be batched with the previous one."""
    batches: list[list[Iteration]] = []
    parameters, before, are_parts = (), None, False
    for each in iterations:
        reading = _only_reading(each)
        were_parts, are_parts = are_parts, reading is None and _has_only_parts(each)
        if (were_parts and are_parts and each.parameters is parameters) or (
            reading is not None
            and before is not None
            and each.parameters is parameters
            and reading.numels is before.numels
            and (
                not reading.samples
                or not before.samples
                or reading.samples.keys() == before.samples.keys()
            )
        ):
            batches[-1].append(each)
        else:
            batches.append([each])
        parameters, before = each.parameters, reading
    return batches


def _has_only_parts(iteration: Iteration) -> bool:
    """Return whether others that are of parts can be batched with the iteration."""
    is_waiting = any(s.probed is not None and s.probed.waiting for s in iteration.steps)
    return not (iteration.compared or is_waiting or is_one_reading(iteration)) and is_of_parts(
        iteration
    )


def _only_reading(iteration: Iteration) -> GradientReading | None:
    """Return the reading of an iteration that others can be batched with."""
    step = iteration.steps[0]
    reading = step.reading
    if (
        iteration.compared
        or step.applied is not None
        or reading is None
        or reading.present is not None
        or (step.probed is not None and step.probed.waiting)
        or not is_one_reading(iteration)
    ):
        return None
    return reading
