"""The columns of iterations whose readings have some of the columns each, as those of several
optimizers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seismograd.capture.loop.iteration import (
    SKETCH,
    SKIPPED,
    GradientReading,
    Iteration,
    OptimizerStep,
    unscaled,
)
from seismograd.capture.rows.column_arrays import (
    NOT_MEASURED,
    RowColumns,
    blank_values,
    rows_stacked,
    states_of_rows,
)
from seismograd.measure.number_table import stacked
from seismograd.schema import SKETCH_WIDTH, FloatArray, StateArray, no_samples


def is_of_parts(iteration: Iteration) -> bool:
    """Return whether each step of the iteration has read some of the columns, and nothing else, as
    where several optimizers step in turn or one behind the other.
    """
    for step in iteration.steps:
        reading = step.reading
        if (
            reading is None
            or reading.samples
            or reading.sketches is not None
            or reading.arrival is not None
            or len(reading.elements)
            or step.applied is not None
            or int(step.flags) & SKIPPED
            or (reading.scale is not None and reading.scale.read() != 1)
        ):
            return False
    return True


def columns_of_parts(iterations: Sequence[Iteration], num_elements: int) -> RowColumns:
    """Return the columns of one iteration, or of several that are of parts."""
    return _one(iterations[0], num_elements) if len(iterations) == 1 else _many(iterations)


def _one(iteration: Iteration, num_elements: int) -> RowColumns:
    """Assemble the columns of one iteration from any number of readings, each of some columns."""
    num_parameters = len(iteration.parameters)
    state = np.full(num_parameters, NOT_MEASURED, np.uint8)
    values = {name: each[0].copy() for name, each in blank_values(1, num_parameters).items()}
    samples: dict[str, FloatArray] = {}
    elements = np.full(num_elements, np.nan)
    sketches: dict[int, FloatArray] = {}
    for step in iteration.steps:
        if step.reading is not None:
            if step.reading.sketches is not None:
                whole = sketches.setdefault(0, np.full((num_parameters, SKETCH_WIDTH), np.nan))
                _fill_sketches(step.reading, step.reading.sketches, state, whole)
            _fill(step, step.reading, state, values, samples, elements)
    return RowColumns(
        state[None],
        {name: value[None] for name, value in values.items()},
        [0] if samples else [],
        {name: value[None] for name, value in samples.items()}
        if samples
        else no_samples(num_parameters),
        elements[None],
        sketches,
    )


def _many(iterations: Sequence[Iteration]) -> RowColumns:
    """Assemble the columns of iterations of parts: what each optimizer has read goes into all of
    its rows at once.
    """
    num_rows, num_parameters = len(iterations), len(iterations[0].parameters)
    state = np.full((num_rows, num_parameters), NOT_MEASURED, np.uint8)
    values = {name: each.copy() for name, each in blank_values(num_rows, num_parameters).items()}
    for position in range(max(len(iteration.steps) for iteration in iterations)):
        alike: dict[tuple[int, int], list[tuple[int, OptimizerStep, GradientReading]]] = {}
        for row, iteration in enumerate(iterations):
            step = iteration.steps[position] if position < len(iteration.steps) else None
            if step is not None and step.reading is not None:
                key = id(step.reading.columns), id(step.reading.numels)
                alike.setdefault(key, []).append((row, step, step.reading))
        for group in alike.values():
            _fill_rows(group, state, values)
    samples, elements = no_samples(num_parameters), np.zeros((num_rows, 0))
    return RowColumns(state, values, [], samples, elements, {})


def _fill_rows(
    group: Sequence[tuple[int, OptimizerStep, GradientReading]],
    state: StateArray,
    values: dict[str, FloatArray],
) -> None:
    """Copy readings of the same columns into their rows, as `_fill` does with one."""
    readings = [reading for _, _, reading in group]
    rows = np.array([row for row, _, _ in group], np.int64)
    place = rows[:, None], readings[0].columns[None]
    found: dict[str, FloatArray] = stacked([reading.values for reading in readings])
    states = states_of_rows(readings, found)
    found["applied_norm"] = (
        rows_stacked([step.applied_norm() for _, step, _ in group])
        if any(step.clips for _, step, _ in group)
        else found["grad_norm"]
    )
    free = state[place] == NOT_MEASURED
    is_free = bool(free.all())
    state[place] = states if is_free else np.where(free, states, state[place])
    for name, each in found.items():
        values[name][place] = each if is_free else np.where(free, each, values[name][place])


def _fill_sketches(
    reading: GradientReading, sketches: FloatArray, state: StateArray, whole: FloatArray
) -> None:
    """Copy the sketches of a reading into their columns, where nothing was put yet."""
    free = state[reading.columns] == NOT_MEASURED
    whole[reading.columns[free]] = unscaled({SKETCH: sketches}, reading.scale)[SKETCH][free]


def _fill(
    step: OptimizerStep,
    reading: GradientReading,
    state: StateArray,
    values: dict[str, FloatArray],
    samples: dict[str, FloatArray],
    elements: FloatArray,
) -> None:
    """Copy a reading into its columns; values that another optimizer of the iteration already put
    there stay.
    """
    free = state[reading.columns] == NOT_MEASURED
    columns = reading.columns[free]
    state[columns] = reading.state[free]
    for name, value in unscaled(reading.values, reading.scale).items():
        values[name][columns] = value[free]
    values["applied_norm"][columns] = step.applied_norm()[free]
    for name, value in unscaled(reading.samples, reading.scale).items():
        target = samples.setdefault(name, np.full((len(state), *value.shape[1:]), np.nan))
        target[columns] = value[free]
    scale = 1.0 if reading.scale is None else reading.scale.read()
    fresh = np.isnan(elements)
    elements[fresh] = (reading.elements / scale)[fresh]
