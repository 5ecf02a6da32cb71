"""Convert iterations to the `RowBatch` that is recorded: their readings, steps and calls.

Shapes: B iterations, S of them sampled, P parameters, E elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seismograd.capture.loop.iteration import (
    SKIPPED,
    GradientReading,
    Iteration,
    OptimizerStep,
    unscaled,
)
from seismograd.capture.probes.probed_updates import UNMOVED, UPDATE_RATIO, ProbedUpdates
from seismograd.schema import (
    EVENT_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    BoolArray,
    FloatArray,
    Optimizer,
    RowBatch,
    Site,
    State,
    StateArray,
    StatisticKind,
    StepFlag,
    no_pairs,
    no_ranks,
    no_samples,
    step_entry,
)
from seismograd.tensors.device_scalars import TotalWeight

NO_RANKS, NO_PAIRS = no_ranks(), no_pairs()
PROBED = tuple(each.name for each in STATISTICS if each.kind is StatisticKind.MEAN)
# arithmetic on flags takes a microsecond, on numbers none
NO_LOSS = int(StepFlag.NO_LOSS)
# NumPy loses what is raised while it looks into an enum
NOT_MEASURED, ZERO, FINITE, NONFINITE = (
    int(state) for state in (State.NOT_MEASURED, State.ZERO, State.FINITE, State.NONFINITE)
)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What was read of the gradients, in the columns of the record."""

    state: StateArray  # (B, P)
    values: dict[str, FloatArray]  # (B, P) each
    sample_rows: list[int]  # (S,)
    samples: Mapping[str, AnyArray]  # (S, P) or (S, P, W)
    elements: FloatArray  # (B, E)


@dataclass(frozen=True, slots=True)
class RowBuilder:
    """Makes rows of iterations. `sites` and `optimizers` are those of the run; their owners append
    to them.
    """

    num_elements: int
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]

    def build(self, iterations: Sequence[Iteration]) -> RowBatch:
        """Return the rows of one of the batches of `batches_of`; numbers still on a device are
        waited for.
        """
        for iteration in iterations:
            for step in iteration.steps:
                for reading in (step.reading, step.applied):
                    if reading is not None and reading.arrival is not None:
                        reading.settle()
        parameters = iterations[0].parameters
        columns = (
            _read_at_once(iterations)
            if is_one_reading(iterations[0])
            else _assemble(iterations[0], self.num_elements)
        )
        _put_carried_and_probed(iterations, columns.values)
        steps = np.array(_step_records(iterations, columns), STEP_DTYPE)
        events = [
            event.record(iteration.number) for iteration in iterations for event in iteration.events
        ]
        pairs = [
            compared.record(iteration.number)
            for iteration in iterations
            for compared in iteration.compared
        ]
        return RowBatch(
            parameters,
            steps,
            columns.state,
            columns.values,
            np.array(columns.sample_rows, np.int64),
            columns.samples,
            np.array(events, EVENT_DTYPE),
            columns.elements,
            self.sites,
            self.optimizers,
            NO_RANKS,
            np.concatenate(pairs) if pairs else NO_PAIRS,
        )


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


def _read_at_once(iterations: Sequence[Iteration]) -> _Columns:
    """Return the columns of iterations each of which is one reading; a single one is not copied."""
    steps = [iteration.steps[0] for iteration in iterations]
    readings = [step.reading for step in steps if step.reading is not None]
    num_parameters = len(iterations[0].parameters)
    values = {
        **blank(len(iterations), num_parameters),
        **{
            name: _stacked([reading.values[name] for reading in readings])
            for name in readings[0].values
        },
    }
    # What was consumed is what was ready, unless something happened to it in between.
    as_ready = not any(
        step.clips or step.applied is not None or int(step.flags) & SKIPPED for step in steps
    )
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
    elements = _stacked([reading.elements for reading in readings])
    return _Columns(_states(readings, values), values, sample_rows, samples, elements)


def _stacked(rows: Sequence[FloatArray]) -> FloatArray:
    return rows[0][None] if len(rows) == 1 else np.array(rows)


def _states(readings: Sequence[GradientReading], values: Mapping[str, FloatArray]) -> StateArray:
    # What every step of a healthy training is: a NaN among the counts, of what was not measured,
    # is true, too.
    if (
        all(reading.present is None for reading in readings)
        and not values["nonfinite"].any()
        and not (values["zeros"] == readings[0].numels).any()
    ):
        return np.full(values["nonfinite"].shape, FINITE, np.uint8)
    return np.array([reading.state for reading in readings])


def _assemble(iteration: Iteration, num_elements: int) -> _Columns:
    """Assemble the columns of one iteration from any number of readings, each of some columns."""
    num_parameters = len(iteration.parameters)
    state = np.full(num_parameters, NOT_MEASURED, np.uint8)
    values = {name: each[0].copy() for name, each in blank(1, num_parameters).items()}
    samples: dict[str, FloatArray] = {}
    elements = np.full(num_elements, np.nan)
    for step in iteration.steps:
        if step.reading is not None:
            _fill(step, step.reading, state, values, samples, elements)
    return _Columns(
        state[None],
        {name: value[None] for name, value in values.items()},
        [0] if samples else [],
        {name: value[None] for name, value in samples.items()}
        if samples
        else no_samples(num_parameters),
        elements[None],
    )


@lru_cache(maxsize=8)
def blank(num_rows: int, num_parameters: int) -> dict[str, FloatArray]:
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
            if len(step.carried):
                _own(values, "carried")[row, step.carried] = 1
            if step.probed is not None and not int(step.flags) & SKIPPED:
                fill_probed(step.probed, {name: _own(values, name)[row] for name in PROBED})


def _step_records(iterations: Sequence[Iteration], columns: _Columns) -> list[tuple[object, ...]]:
    """Return the numbers of each iteration as a whole, as entries of STEP_DTYPE."""
    state, values = columns.state, columns.values
    ready, applied = values["grad_norm"], values["applied_norm"]
    there = state >= ZERO
    norms = (
        # Nearly always, and quicker than row by row.
        [math.hypot(*row) for row in ready.tolist()]
        if there.all() and np.isfinite(ready).all() and ready.shape[1]
        else [total(*row) for row in zip(ready, there, strict=True)]
    )
    used = norms
    if applied is not ready:
        known = ~np.isnan(applied) | (state == NONFINITE)
        used = [total(*row) for row in zip(applied, known, strict=True)]
    sampled = set(columns.sample_rows)
    return [
        numbers_of_step(iteration, norms[row], used[row], row in sampled)
        for row, iteration in enumerate(iterations)
    ]


def numbers_of_step(
    iteration: Iteration, grad_norm: float, applied_norm: float, sampled: bool
) -> tuple[object, ...]:
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
    clip_norm = clip_limit = clip_coefficient = math.nan
    if clip is not None:
        clip_norm, clip_limit = clip.norm.read(), clip.limit.read()
        if clip.by_norm:
            clip_coefficient = clip.coefficient()
    return step_entry(
        iteration=iteration.number,
        step=first.number,
        time_s=iteration.events[-1].time_s if iteration.events else math.nan,
        loss=_loss(iteration),
        lr=first.lr.read(),
        grad_norm=grad_norm,
        scale=1.0
        if scale is None
        else scale.loss_scale
        if isinstance(scale, TotalWeight)
        else scale.read(),
        clip_norm=clip_norm,
        clip_limit=clip_limit,
        clip_coefficient=clip_coefficient,
        applied_norm=applied_norm,
        overhead_s=iteration.overhead_s,
        optimizer=first.optimizer,
        num_steps=len(iteration.steps),
        num_backwards=max(step.num_backwards for step in iteration.steps),
        epoch=iteration.epoch,
        flags=_flags(iteration),
        sampled=sampled,
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


def fill_probed(probed: ProbedUpdates, row: dict[str, FloatArray]) -> None:
    """Copy the probed updates into the columns of PROBED; values from another optimizer's step in
    the iteration stay.
    """
    numbers = probed.settled()
    for position, column in enumerate(probed.columns):
        if column >= 0 and np.isnan(row["update_ratio"][column]):
            row["update_ratio"][column] = numbers[UPDATE_RATIO, position]
            row["unmoved"][column] = numbers[UNMOVED, position]
