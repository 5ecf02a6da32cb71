"""Read the current gradients of one optimizer in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from seismograd.capture.loop.iteration import GradientReading, PendingReading, Values
from seismograd.capture.loop.measured_steps import Extent
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.rows.reading_plan import ReadingPlan, num_scalars
from seismograd.capture.rows.requested_elements import RequestedElements
from seismograd.measure.backend import AllPending, Measurement, MeasuringBackend
from seismograd.measure.finite import all_finite
from seismograd.measure.number_table import are_ordinary
from seismograd.measure.sketches.gradient_sketches import GradientSketches
from seismograd.schema import MEASURED_EVERY_TIME, BoolArray, FloatArray, IntArray
from seismograd.tensors.device_scalars import Scalar

PLAIN = frozenset({torch.Tensor})
Sketch = Callable[[Sequence[torch.Tensor]], GradientSketches | None]
NO_ELEMENTS = np.zeros(0)  # shared, never written to
NO_SAMPLES: Values = {}  # likewise


@dataclass(frozen=True, slots=True)
class GradientsToMeasure:
    """The gradients that the backend is given, and where their numbers go.

    `mask` says which of the columns have one of them, and is `None` where all do.
    """

    gradients: list[torch.Tensor]
    parameters: list[torch.Tensor]
    keys: tuple[int, ...]  # a column for each of them
    columns: IntArray  # of all, also of those without a gradient
    numels: IntArray  # likewise
    mask: BoolArray | None


def read_gradients(
    window: OptimizerWindow,
    planned: ReadingPlan,
    held: list[torch.Tensor],
    parameter_table: ParameterTable,
    backend: MeasuringBackend,
    elements: RequestedElements,
    waiting: list[Scalar],
    extra_losses: Sequence[Scalar],
    sample: bool,
    extent: Extent = Extent.MEASURED,
    sketch: Sketch | None = None,
) -> GradientReading:
    """Read the gradients of the optimizer and of its models' parameters that nobody updates.

    `held` are its parameters and `planned` is their plan. `waiting` scalars on a device are brought
    over in the same transfer. `extra_losses` belong to a backward that has not ended yet.
    `extent`: whether they are measured. `sketch` them, too, where that is given.
    """
    weights = held
    if window.partition is None:
        gradients = [p.grad for p in held]
    else:
        gradients, weights = window.partition.parts(held)
    if extent is not Extent.MEASURED:
        is_unread = extent is Extent.UNREAD
        if is_unread or all_finite([g for g in gradients if g is not None]):
            return _not_measured(
                window, planned, gradients, len(elements), extra_losses, is_unread=is_unread
            )
    losses = (*window.losses, *extra_losses)
    is_plain = not planned.unowned and not planned.frozen and set(map(type, gradients)) <= PLAIN
    if is_plain and not waiting and not elements.specs and sketch is None:
        existing: Any = gradients  # none of them is None
        measurement = backend.measure(existing, held, planned.columns, (), sample)
        if measurement.pending is None:  # as on the CPU: nothing to wait for, and nothing to spread
            return GradientReading(
                planned.positions,
                planned.numels,
                None,
                measurement.values,
                measurement.samples,
                NO_ELEMENTS,
                window.grad_scale,
                losses,
                window.loss_scale,
                planned.whole,
                # then neither the step nor the next backward looks for what made one not so
                is_ordinary=are_ordinary(
                    measurement.values["grad_norm"], measurement.values["nonfinite"]
                ),
            )
        measured = _all_of_the_plan(planned, held, existing)
        return _arriving(window, planned, measured, measurement, [], [], 0, losses, None)
    measured = (
        _all_of_the_plan(planned, held, cast(list[torch.Tensor], gradients))
        if is_plain
        else _those_that_exist(planned, held, parameter_table, gradients, weights)
    )
    sketches = None if sketch is None else sketch(measured.gradients)
    picked = _picked(elements, measured, parameter_table)
    pending = [(s, s.tensor) for s in waiting if s.tensor is not None]
    brought = [t for _, t in picked] + [t for _, t in pending]
    measurement = backend.measure(
        measured.gradients, measured.parameters, measured.keys, brought, sample
    )
    return _arriving(
        window,
        planned,
        measured,
        measurement,
        [position for position, _ in picked],
        [s for s, _ in pending],
        len(elements),
        losses,
        sketches,
    )


def _all_of_the_plan(
    planned: ReadingPlan, held: list[torch.Tensor], gradients: list[torch.Tensor]
) -> GradientsToMeasure:
    return GradientsToMeasure(
        gradients, held, planned.columns, planned.positions, planned.numels, None
    )


def _those_that_exist(
    planned: ReadingPlan,
    held: list[torch.Tensor],
    parameter_table: ParameterTable,
    held_gradients: Sequence[torch.Tensor | None],
    weights: Sequence[torch.Tensor],
) -> GradientsToMeasure:
    """Return the gradients that exist, also those of parameters that no optimizer holds."""
    parameters, numbers = planned.with_unowned(held)
    others = parameters[len(held) :]
    gradients = [*held_gradients, *(p.grad for p in others)]
    present = [
        (g, p, c)
        for g, p, c in zip(gradients, (*weights, *others), numbers, strict=True)
        if g is not None
    ]
    keys = tuple(c for _, _, c in present)
    parameter_table.thaw(keys)
    return GradientsToMeasure(
        [g for g, _, _ in present],
        [p for _, p, _ in present],
        keys,
        np.asarray(numbers, np.int64),
        np.asarray([0 if g is None else num_scalars(g) for g in gradients], np.int64),
        np.asarray([g is not None for g in gradients], bool),
    )


def _picked(
    elements: RequestedElements, measured: GradientsToMeasure, parameter_table: ParameterTable
) -> list[tuple[int, torch.Tensor]]:
    """Return the requested scalars of these gradients, each with its position."""
    if not len(elements):
        return []
    return elements.pick(
        {
            parameter_table.parameters[c].name: g
            for g, c in zip(measured.gradients, measured.keys, strict=True)
        }
    )


def _arriving(
    window: OptimizerWindow,
    planned: ReadingPlan,
    measured: GradientsToMeasure,
    measurement: Measurement,
    picked: Sequence[int],
    pending: Sequence[Scalar],
    num_elements: int,
    losses: tuple[Scalar, ...],
    sketches: GradientSketches | None,
) -> GradientReading:
    """Return a reading that takes its numbers from `measurement` when they arrive."""
    mask = measured.mask
    values, samples = measurement.values, measurement.samples
    if mask is not None:
        values, samples = (
            {name: _spread(v.shape[1:], len(mask)) for name, v in numbers.items()}
            for numbers in (values, samples)
        )
    reading = GradientReading(
        columns=measured.columns,
        numels=measured.numels,
        present=None if mask is None else mask.tolist(),
        values=values,
        samples=samples,
        elements=np.full(num_elements, np.nan),
        scale=window.grad_scale,
        losses=losses,
        loss_scale=window.loss_scale,
        whole=planned.whole and measured.columns is planned.positions,
        sketches=None
        if sketches is None
        else sketches.values
        if mask is None
        else _spread(sketches.values.shape[1:], len(mask)),
    )

    def complete() -> None:
        """Use the numbers, which have arrived."""
        for scalar, value in zip(pending, measurement.scalars[len(picked) :], strict=True):
            scalar.settle(float(value))
        for position, value in zip(picked, measurement.scalars, strict=False):
            reading.elements[position] = value
        if mask is not None:
            for spread, numbers in (
                (reading.values, measurement.values),
                (reading.samples, measurement.samples),
            ):
                for name, value in numbers.items():
                    spread[name][mask] = value
            if sketches is not None and reading.sketches is not None:
                reading.sketches[mask] = sketches.values

    transfers = (measurement.pending, None if sketches is None else sketches.pending)
    pending_numbers = AllPending(tuple(each for each in transfers if each is not None))
    if pending_numbers.is_done():
        pending_numbers.finish()
        complete()
    else:
        reading.arrival = PendingReading(pending_numbers, complete)
    return reading


def _not_measured(
    window: OptimizerWindow,
    planned: ReadingPlan,
    gradients: Sequence[torch.Tensor | None],
    num_elements: int,
    extra_losses: Sequence[Scalar],
    *,
    is_unread: bool,
) -> GradientReading:
    """Return what is known of gradients that were not measured: which exist."""
    return GradientReading(
        columns=planned.positions,
        numels=planned.numels,
        present=[g is not None for g in gradients],
        values={each.name: np.full(len(gradients), np.nan) for each in MEASURED_EVERY_TIME},
        samples={},
        elements=np.full(num_elements, np.nan),
        scale=window.grad_scale,
        losses=(*window.losses, *extra_losses),
        loss_scale=window.loss_scale,
        whole=planned.whole,
        is_unread=is_unread,
    )


def _spread(shape: tuple[int, ...], num: int) -> FloatArray:
    """Return NaN for each of so many gradients."""
    return np.full((num, *shape), np.nan)
