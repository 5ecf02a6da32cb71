"""Convert several iterations to rows at once, where each is one reading of all columns: for NumPy
many are hardly more work than one.

The result equals what `rows.row_of` makes of each. Shapes: B iterations, S of them sampled, P
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seismograd.capture.loop.iteration import GradientReading, states
from seismograd.capture.loop.pending_iterations import FinishedIteration
from seismograd.capture.rows.gradient_reading import MEASURED_EVERY_TIME
from seismograd.capture.rows.row_builder import (
    NO_PAIRS,
    NO_RANKS,
    PROBED,
    SKIPPED,
    blank,
    fill_probed,
    is_one_reading,
    numbers_of_step,
    total,
)
from seismograd.schema import (
    EVENT_DTYPE,
    STEP_DTYPE,
    FloatArray,
    Rows,
    State,
    StateArray,
)


def batches_of(finished: Sequence[FinishedIteration]) -> list[list[FinishedIteration]]:
    """Split where one iteration cannot be batched with the previous one."""
    runs: list[list[FinishedIteration]] = []
    simple_before = False
    for each in finished:
        simple = _is_simple(each)
        if simple and simple_before and _can_be_batched(runs[-1][-1], each):
            runs[-1].append(each)
        else:
            runs.append([each])
        simple_before = simple
    return runs


def _is_simple(finished: FinishedIteration) -> bool:
    iteration = finished.iteration
    step = iteration.steps[0]
    if (
        iteration.compared
        or step.applied is not None
        or not is_one_reading(iteration, len(finished.parameters))
    ):
        return False
    return (
        step.reading is not None
        and step.reading.present is None
        and (step.probed is None or not step.probed.waiting)
    )


def _can_be_batched(one: FinishedIteration, other: FinishedIteration) -> bool:
    first, second = one.iteration.steps[0].reading, other.iteration.steps[0].reading
    assert first is not None
    assert second is not None
    return (
        one.parameters is other.parameters
        and first.numels is second.numels
        and _same_samples(first, second)
    )


def _same_samples(one: GradientReading, other: GradientReading) -> bool:
    return not one.samples or not other.samples or one.samples.keys() == other.samples.keys()


def rows_of(finished: Sequence[FinishedIteration]) -> Rows:
    """Return the rows of a run of two or more iterations."""
    steps = [each.iteration.steps[0] for each in finished]
    readings = [step.reading for step in steps if step.reading is not None]
    for reading in readings:
        reading.settle()
    parameters = finished[0].parameters
    values = {
        **_blanks(len(finished), len(parameters)),
        **{name: np.array([r.values[name] for r in readings]) for name in MEASURED_EVERY_TIME},
    }
    state = _states(readings, values)
    ready = values["grad_norm"]
    plain = not any(step.clips or int(step.flags) & SKIPPED for step in steps)
    values["applied_norm"] = ready if plain else np.array([step.applied_norm() for step in steps])
    for row, step in enumerate(steps):
        if len(step.carried):
            values["carried"][row, step.carried] = 1
        if step.probed is not None and not int(step.flags) & SKIPPED:
            fill_probed(step.probed, {name: values[name][row] for name in PROBED})
    sampled = [row for row, reading in enumerate(readings) if reading.samples]
    records = _records(finished, readings, state, ready, values["applied_norm"], plain)
    return Rows(
        parameters,
        np.array(records, STEP_DTYPE),
        state,
        values,
        np.array(sampled, np.int64),
        {
            name: np.array([readings[row].samples[name] for row in sampled])
            for name in readings[sampled[0]].samples
        }
        if sampled
        else {},
        np.array(
            [event.record(each.number) for each in finished for event in each.iteration.events],
            EVENT_DTYPE,
        ),
        np.array([reading.elements for reading in readings]),
        NO_RANKS,
        NO_PAIRS,
    )


def _blanks(num_rows: int, num_parameters: int) -> dict[str, FloatArray]:
    """Return the values recorded where nothing was measured."""
    return {
        name: np.array(np.broadcast_to(b, (num_rows, *b.shape)))
        for name, b in blank(num_parameters).items()
        if name not in MEASURED_EVERY_TIME
    }


def _states(readings: Sequence[GradientReading], values: Mapping[str, FloatArray]) -> StateArray:
    # NaN is truthy, so unmeasured counts take this path, too.
    if not values["nonfinite"].any() and not (values["zeros"] == readings[0].numels).any():
        return np.full(values["nonfinite"].shape, int(State.FINITE), np.uint8)
    return np.array(
        [
            states({name: values[name][row] for name in MEASURED_EVERY_TIME}, None, r.numels)
            for row, r in enumerate(readings)
        ]
    )


def _records(
    finished: Sequence[FinishedIteration],
    readings: Sequence[GradientReading],
    state: StateArray,
    ready: FloatArray,
    applied: FloatArray,
    plain: bool,
) -> list[tuple[Any, ...]]:
    """Return the numbers of each iteration as a whole, as entries of STEP_DTYPE."""
    there, every = (
        state >= int(State.ZERO),
        bool((state >= int(State.ZERO)).all()) and bool(np.isfinite(ready).all()),
    )
    norms = (
        [math.hypot(*row) for row in ready.tolist()]
        if every
        else [total(*row) for row in zip(ready, there, strict=True)]
    )
    used = norms
    if not plain:
        known = ~np.isnan(applied) | (state == int(State.NONFINITE))
        used = [total(*row) for row in zip(applied, known, strict=True)]
    return [
        numbers_of_step(
            each.iteration,
            each.number,
            norms[row],
            used[row],
            bool(readings[row].samples),
            each.epoch,
        )
        for row, each in enumerate(finished)
    ]
