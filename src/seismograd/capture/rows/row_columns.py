"""The columns of the record, filled from the readings of iterations.

Shapes: B iterations, S of them sampled, P parameters, E elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seismograd.capture.loop.iteration import SKIPPED, Iteration
from seismograd.capture.probes.probed_updates import UNMOVED, UPDATE_RATIO, ProbedUpdates
from seismograd.capture.rows.column_arrays import (
    RowColumns,
    blank_values,
    rows_stacked,
    states_of_rows,
)
from seismograd.capture.rows.columns_of_parts import columns_of_parts
from seismograd.capture.rows.window_columns import NO_COLUMNS
from seismograd.measure.number_table import stacked
from seismograd.schema import STATISTICS, FloatArray, StatisticKind, no_samples

PROBED = tuple(each.name for each in STATISTICS if each.kind is StatisticKind.MEAN)


def columns_of_rows(iterations: Sequence[Iteration], num_elements: int) -> RowColumns:
    """Return the columns of one of the batches of `batches_of`."""
    columns = (
        _read_at_once(iterations, num_elements)
        if is_one_reading(iterations[0])
        else columns_of_parts(iterations, num_elements)
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


def _read_at_once(iterations: Sequence[Iteration], num_elements: int) -> RowColumns:
    """Return the columns of iterations each of which is one reading; a single one is not copied."""
    steps = [iteration.steps[0] for iteration in iterations]
    readings = [step.reading for step in steps if step.reading is not None]
    num_parameters = len(iterations[0].parameters)
    values = {
        **blank_values(len(iterations), num_parameters),
        **stacked([reading.values for reading in readings]),
    }
    # What was consumed is what was ready, unless something happened to it in between.
    as_ready = True
    for step in steps:  # a loop: generators would be more calls
        if step.clips or step.applied is not None or int(step.flags) & SKIPPED:
            as_ready = False
            break
    values["applied_norm"] = (
        values["grad_norm"] if as_ready else rows_stacked([step.applied_norm() for step in steps])
    )
    sample_rows = [row for row, reading in enumerate(readings) if reading.samples]
    samples = (
        {
            name: rows_stacked([readings[row].samples[name] for row in sample_rows])
            for name in readings[sample_rows[0]].samples
        }
        if sample_rows
        else no_samples(num_parameters)
    )
    elements = (
        rows_stacked([reading.elements for reading in readings])
        if num_elements
        else np.zeros((len(readings), 0))
    )
    sketches = {
        row: reading.sketches
        for row, reading in enumerate(readings)
        if reading.sketches is not None
    }
    return RowColumns(
        states_of_rows(readings, values), values, sample_rows, samples, elements, sketches
    )


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
