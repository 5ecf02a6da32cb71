"""The columns of the record, filled from the readings of iterations.

Shapes: B iterations, S of them sampled, P parameters, E elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seismograd.capture.loop.iteration import (
    SKETCH,
    SKIPPED,
    GradientReading,
    Iteration,
    OptimizerStep,
    unscaled,
)
from seismograd.capture.probes.probed_updates import UNMOVED, UPDATE_RATIO, ProbedUpdates
from seismograd.capture.rows.window_columns import NO_COLUMNS
from seismograd.measure.number_table import stacked
from seismograd.schema import (
    SKETCH_WIDTH,
    STATISTICS,
    AnyArray,
    FloatArray,
    State,
    StateArray,
    StatisticKind,
    no_samples,
)

PROBED = tuple(each.name for each in STATISTICS if each.kind is StatisticKind.MEAN)
# NumPy loses what is raised while it looks into an enum
NOT_MEASURED, FINITE = int(State.NOT_MEASURED), int(State.FINITE)
ZERO, NONFINITE = int(State.ZERO), int(State.NONFINITE)


@dataclass(frozen=True, slots=True)
class RowColumns:
    """What was read of the gradients, in the columns of the record."""

    state: StateArray  # (B, P)
    values: dict[str, FloatArray]  # (B, P) each
    sample_rows: list[int]  # (S,)
    samples: Mapping[str, AnyArray]  # (S, P) or (S, P, W)
    elements: FloatArray  # (B, E)
    sketches: Mapping[int, FloatArray]  # by row  # (P, SKETCH_WIDTH)


def columns_of_rows(iterations: Sequence[Iteration], num_elements: int) -> RowColumns:
    """Return the columns of one of the batches of `batches_of`."""
    columns = (
        _read_at_once(iterations, num_elements)
        if is_one_reading(iterations[0])
        else _assemble(iterations[0], num_elements)
        if len(iterations) == 1
        else _assemble_at_once(iterations)
    )
    _put_carried_and_probed(iterations, columns.values)
    return columns


def is_one_reading(iteration: Iteration) -> bool:
    """Return whether the iteration is one step of one optimizer whose reading covers all columns,
    as most do.
    """
    reading = iteration.steps[0].reading
    if (
        len(iteration.steps) > 1
        or reading is None
        or not reading.whole
        or len(reading.columns) != len(iteration.parameters)
    ):
        return False
    return reading.scale is None or reading.scale.read() == 1


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


def _read_at_once(iterations: Sequence[Iteration], num_elements: int) -> RowColumns:
    """Return the columns of iterations each of which is one reading; a single one is not copied."""
    steps = [iteration.steps[0] for iteration in iterations]
    readings = [step.reading for step in steps if step.reading is not None]
    num_parameters = len(iterations[0].parameters)
    values = {
        **_blank(len(iterations), num_parameters),
        **stacked([reading.values for reading in readings]),
    }
    # What was consumed is what was ready, unless something happened to it in between.
    as_ready = True
    for step in steps:  # a loop: generators would be more calls
        if step.clips or step.applied is not None or int(step.flags) & SKIPPED:
            as_ready = False
            break
    values["applied_norm"] = (
        values["grad_norm"] if as_ready else _stacked([step.applied_norm() for step in steps])
    )
    sample_rows = [row for row, reading in enumerate(readings) if reading.samples]
    samples = (
        {
            name: _stacked([readings[row].samples[name] for row in sample_rows])
            for name in readings[sample_rows[0]].samples
        }
        if sample_rows
        else no_samples(num_parameters)
    )
    elements = (
        _stacked([reading.elements for reading in readings])
        if num_elements
        else np.zeros((len(readings), 0))
    )
    sketches = {
        row: reading.sketches
        for row, reading in enumerate(readings)
        if reading.sketches is not None
    }
    return RowColumns(_states(readings, values), values, sample_rows, samples, elements, sketches)


def _stacked(rows: Sequence[FloatArray]) -> FloatArray:
    return rows[0][None] if len(rows) == 1 else np.array(rows)


def _states(readings: Sequence[GradientReading], values: Mapping[str, FloatArray]) -> StateArray:
    for reading in readings:
        if reading.present is not None:
            return np.array([reading.state for reading in readings])
    # of all rows at once, what `states` says of one whose gradients all exist
    nonfinite, are_zero = values["nonfinite"], values["zeros"] == readings[0].numels
    found = np.full(nonfinite.shape, FINITE, np.uint8)
    # What every step of a healthy training is: a NaN among the counts, of what was not measured,
    # is true, too.
    if nonfinite.any():
        found[are_zero] = ZERO
        found[nonfinite > 0] = NONFINITE
        found[np.isnan(nonfinite)] = NOT_MEASURED
    elif are_zero.any():
        found[are_zero] = ZERO
    return found


def _assemble(iteration: Iteration, num_elements: int) -> RowColumns:
    """Assemble the columns of one iteration from any number of readings, each of some columns."""
    num_parameters = len(iteration.parameters)
    state = np.full(num_parameters, NOT_MEASURED, np.uint8)
    values = {name: each[0].copy() for name, each in _blank(1, num_parameters).items()}
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


def _assemble_at_once(iterations: Sequence[Iteration]) -> RowColumns:
    """Assemble the columns of iterations of parts: what each optimizer has read goes into all of
    its rows at once.
    """
    num_rows, num_parameters = len(iterations), len(iterations[0].parameters)
    state = np.full((num_rows, num_parameters), NOT_MEASURED, np.uint8)
    values = {name: each.copy() for name, each in _blank(num_rows, num_parameters).items()}
    for position in range(max(len(iteration.steps) for iteration in iterations)):
        alike: dict[tuple[int, int], list[tuple[int, OptimizerStep, GradientReading]]] = {}
        for row, iteration in enumerate(iterations):
            step = iteration.steps[position] if position < len(iteration.steps) else None
            if step is not None and step.reading is not None:
                key = id(step.reading.columns), id(step.reading.numels)
                alike.setdefault(key, []).append((row, step, step.reading))
        for group in alike.values():
            _fill_at_once(group, state, values)
    samples, elements = no_samples(num_parameters), np.zeros((num_rows, 0))
    return RowColumns(state, values, [], samples, elements, {})


def _fill_at_once(
    group: Sequence[tuple[int, OptimizerStep, GradientReading]],
    state: StateArray,
    values: dict[str, FloatArray],
) -> None:
    """Copy readings of the same columns into their rows, as `_fill` does with one."""
    readings = [reading for _, _, reading in group]
    rows = np.array([row for row, _, _ in group], np.int64)
    place = rows[:, None], readings[0].columns[None]
    found: dict[str, FloatArray] = stacked([reading.values for reading in readings])
    states = _states(readings, found)
    found["applied_norm"] = (
        _stacked([step.applied_norm() for _, step, _ in group])
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


@lru_cache(maxsize=8)
def _blank(num_rows: int, num_parameters: int) -> dict[str, FloatArray]:
    """Return what is recorded of every iteration where nothing was measured  # (B, P) each. Nobody
    may write into it.
    """
    shared: dict[str, FloatArray] = {}
    for statistic in STATISTICS:
        if not statistic.sampled:
            shape = (num_parameters,) if statistic.width == 1 else (num_parameters, statistic.width)
            nothing = np.full(shape, 0.0 if statistic.kind is StatisticKind.FLAG else np.nan)
            shared[statistic.name] = np.broadcast_to(nothing, (num_rows, *shape))
    return shared


def _own(values: dict[str, FloatArray], name: str) -> FloatArray:
    """Return the array of this name, copied first where it is shared."""
    if not values[name].flags.writeable:
        values[name] = values[name].copy()
    return values[name]


def _put_carried_and_probed(iterations: Sequence[Iteration], values: dict[str, FloatArray]) -> None:
    for row, iteration in enumerate(iterations):
        for step in iteration.steps:
            if step.carried is not NO_COLUMNS and len(step.carried):
                _own(values, "carried")[row, step.carried] = 1
            if step.probed is not None and not int(step.flags) & SKIPPED:
                of_row = {name: _own(values, name)[row] for name in PROBED}
                if len(iteration.steps) == 1 and min(step.probed.columns, default=-1) >= 0:
                    numbers, columns = step.probed.settled(), step.probed.columns
                    of_row["update_ratio"][columns] = numbers[UPDATE_RATIO]
                    of_row["unmoved"][columns] = numbers[UNMOVED]
                else:
                    _fill_probed(step.probed, of_row)


def _fill_probed(probed: ProbedUpdates, row: dict[str, FloatArray]) -> None:
    """Copy the probed updates into the columns of PROBED; values from another optimizer's step in
    the iteration stay.
    """
    numbers = probed.settled()
    for position, column in enumerate(probed.columns):
        if column >= 0 and np.isnan(row["update_ratio"][column]):
            row["update_ratio"][column] = numbers[UPDATE_RATIO, position]
            row["unmoved"][column] = numbers[UNMOVED, position]
