"""Convert an iteration to the `Row` that is recorded: its readings, steps and calls.

Shapes: P parameters, E elements.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from seismograd.capture.loop.iteration import GradientReading, Iteration, OptimizerStep, unscaled
from seismograd.capture.probes.update_probe import UNMOVED, UPDATE_RATIO, ProbedUpdates
from seismograd.schema import (
    EVENT_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    BoolArray,
    FloatArray,
    Parameter,
    Row,
    State,
    StateArray,
    StepFlag,
    no_pairs,
    no_ranks,
)
from seismograd.tensors.device_scalars import TotalWeight

NO_RANKS, NO_PAIRS = no_ranks(), no_pairs()
PROBED = ("update_ratio", "unmoved")
# arithmetic on flags takes a microsecond, on numbers none
SKIPPED, NO_LOSS = int(StepFlag.SKIPPED), int(StepFlag.NO_LOSS)


def row_of(
    iteration: Iteration,
    number: int,
    parameters: tuple[Parameter, ...],
    num_elements: int,
    epoch: int,
) -> Row:
    """Return the iteration as number `number`; waits for numbers still on a device."""
    for step in iteration.steps:
        for reading in (step.reading, step.applied):
            if reading is not None and reading.arrival is not None:
                reading.settle()
    num = len(parameters)
    parts = (
        _one_reading(iteration, num)
        if is_one_reading(iteration, num)
        else _assemble(iteration, num, num_elements)
    )
    state, values, samples, elements = parts
    for step in iteration.steps:
        if len(step.carried):
            values["carried"] = _own(values["carried"])
            values["carried"][step.carried] = 1
        if step.probed is not None and not int(step.flags) & SKIPPED:
            values.update({name: _own(values[name]) for name in PROBED})
            fill_probed(step.probed, values)
    ready, applied = values["grad_norm"], values["applied_norm"]
    grad_norm = total(ready, state >= int(State.ZERO))
    applied_norm = (
        grad_norm
        if applied is ready
        else total(applied, ~np.isnan(applied) | (state == int(State.NONFINITE)))
    )
    # As a tuple and at once: setting one field after the other takes ten times as long.
    record = np.array(
        numbers_of_step(iteration, number, grad_norm, applied_norm, bool(samples), epoch),
        STEP_DTYPE,
    )
    pairs = (
        np.concatenate([compared.record(number) for compared in iteration.compared])
        if iteration.compared
        else NO_PAIRS
    )
    events = np.array([event.record(number) for event in iteration.events], EVENT_DTYPE)
    return Row(parameters, record, state, values, samples, events, elements, NO_RANKS, pairs)


Parts = tuple[StateArray, dict[str, FloatArray], dict[str, FloatArray], FloatArray]


def is_one_reading(iteration: Iteration, num_parameters: int) -> bool:
    """Return whether the iteration is one step of one optimizer whose reading covers all columns,
    as most do.
    """
    reading = iteration.steps[0].reading
    if (
        len(iteration.steps) > 1
        or reading is None
        or not reading.whole
        or len(reading.columns) != num_parameters
    ):
        return False
    return reading.scale is None or reading.scale.read() == 1


def _one_reading(iteration: Iteration, num_parameters: int) -> Parts:
    """Return the parts of a row that is one reading, without copying."""
    reading = iteration.steps[0].reading
    assert reading is not None
    values = {
        **blank(num_parameters),
        **reading.values,
        "applied_norm": iteration.steps[0].applied_norm(),
    }
    return reading.state, values, dict(reading.samples), reading.elements


@lru_cache(maxsize=8)
def blank(num_parameters: int) -> dict[str, FloatArray]:
    """Return the values recorded where nothing was measured; shared, so never write to them."""
    shared: dict[str, FloatArray] = {}
    for statistic in STATISTICS:
        if not statistic.sampled:
            shape = (num_parameters,) if statistic.width == 1 else (num_parameters, statistic.width)
            shared[statistic.name] = (
                np.zeros(shape) if statistic.name == "carried" else np.full(shape, np.nan)
            )
            shared[statistic.name].flags.writeable = False
    return shared


def _own(numbers: FloatArray) -> FloatArray:
    """Return the array itself, or a copy where it is shared."""
    return numbers if numbers.flags.writeable else numbers.copy()


def _assemble(iteration: Iteration, num_parameters: int, num_elements: int) -> Parts:
    """Assemble the parts of a row from any number of readings, each of some columns."""
    state = np.full(num_parameters, int(State.NOT_MEASURED), np.uint8)
    values = {name: blank.copy() for name, blank in blank(num_parameters).items()}
    samples: dict[str, FloatArray] = {}
    elements = np.full(num_elements, np.nan)
    for step in iteration.steps:
        if step.reading is not None:
            _fill(step, step.reading, state, values, samples, elements)
    return state, values, samples, elements


def numbers_of_step(
    iteration: Iteration,
    number: int,
    grad_norm: float,
    applied_norm: float,
    sampled: bool,
    epoch: int,
) -> tuple[Any, ...]:
    """Return the numbers of the iteration as a whole, as an entry of STEP_DTYPE."""
    first = iteration.steps[0]
    scale = next(
        (
            s.reading.loss_scale
            for s in iteration.steps
            if s.reading is not None and s.reading.loss_scale is not None
        ),
        None,
    )
    clip = next((s.clips[0] for s in iteration.steps if s.clips), None)
    return (
        number,
        first.number,
        iteration.events[-1].time_s if iteration.events else math.nan,
        _loss(iteration),
        first.lr.read(),
        grad_norm,
        1.0
        if scale is None
        else scale.loss_scale
        if isinstance(scale, TotalWeight)
        else scale.read(),
        math.nan if clip is None else clip.norm.read(),
        math.nan if clip is None else clip.limit.read(),
        clip.coefficient() if clip is not None and clip.by_norm else math.nan,
        applied_norm,
        iteration.overhead_s,
        first.optimizer,
        len(iteration.steps),
        max(step.num_backwards for step in iteration.steps),
        epoch,
        _flags(iteration),
        sampled,
    )


def _flags(iteration: Iteration) -> int:
    """Return the flags: `SKIPPED` when no optimizer of the iteration stepped; the others when they
    hold for any.
    """
    flags, skipped, known = 0, SKIPPED, False
    for step in iteration.steps:
        flags |= int(step.flags) & ~SKIPPED
        skipped &= int(step.flags)
        if step.reading is not None:
            for loss in step.reading.losses:
                known = True
                if not loss.known:
                    flags |= NO_LOSS
    return flags | skipped | (0 if known else NO_LOSS)


def _loss(iteration: Iteration) -> float:
    """Return the sum of the losses behind the gradients, each once, though several optimizers may
    share it.
    """
    losses: dict[int, float] = {}
    for step in iteration.steps:
        if step.reading is not None:
            scale = 1.0 if step.reading.loss_scale is None else step.reading.loss_scale.read()
            losses.update({id(loss): loss.read() / scale for loss in step.reading.losses})
    return math.nan if not losses else sum(losses.values())


def total(norms: FloatArray, which: BoolArray) -> float:
    """Return the L2 norm over several gradients from the norm of each; NaN when there is none, or
    one is not finite.
    """
    chosen = norms if which.all() else norms[which]
    return math.hypot(*chosen.tolist()) if len(chosen) and np.isfinite(chosen).all() else math.nan


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
    free = state[reading.columns] == int(State.NOT_MEASURED)
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


def fill_probed(probed: ProbedUpdates, row: dict[str, FloatArray]) -> None:
    """Copy the probed updates into the columns of PROBED; values from another optimizer's step in
    the iteration stay.
    """
    numbers = probed.settled()
    for position, column in enumerate(probed.columns):
        if column >= 0 and np.isnan(row["update_ratio"][column]):
            row["update_ratio"][column] = numbers[UPDATE_RATIO, position]
            row["unmoved"][column] = numbers[UNMOVED, position]
