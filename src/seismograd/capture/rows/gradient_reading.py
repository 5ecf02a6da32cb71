"""Read the current gradients of one optimizer in one pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import cast

import numpy as np
import torch

from seismograd.capture.loop.iteration import GradientReading, PendingReading
from seismograd.capture.loop.optimizer_window import ClearingTracker, OptimizerWindow, ReadingPlan
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.measure.backend import Measurement, MeasuringBackend
from seismograd.measure.finite import all_finite
from seismograd.schema import MEASURED_EVERY_TIME, BoolArray, FloatArray, IntArray, Parameter
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.dtensor import num_held
from seismograd.tensors.shards import held_element

Refuse = Callable[[SeismogradError], None]
PLAIN = {torch.Tensor}
NO_COLUMNS, NO_ELEMENTS = np.zeros(0, np.int64), np.zeros(0)  # shared, never written to


class RequestedElements:
    """The requested single scalars; one outside its parameter's shape is rejected once and stays
    NaN.
    """

    def __init__(self, specs: Sequence[ElementSpec], refuse: Refuse) -> None:
        self.specs = tuple(specs)
        self._refuse = refuse
        self._refused: set[ElementSpec] = set()

    def __len__(self) -> int:
        return len(self.specs)

    def unknown(self, parameters: Sequence[Parameter]) -> list[SeismogradError]:
        """Return an error for each that names none of the parameters."""
        names = [each.name for each in parameters]
        others = {alias: each.name for each in parameters for alias in each.aliases}
        errors: list[SeismogradError] = []
        for spec in self.specs:
            if spec.parameter in names:
                continue
            own = others.get(spec.parameter)
            near = [own] if own else get_close_matches(spec.parameter, names, 3, 0.4) or names[:3]
            errors.append(
                SeismogradError(
                    say(
                        "{element} was not recorded: no parameter is named {name}; the closest "
                        "names are {names}",
                        element=str(spec),
                        name=spec.parameter,
                        names=", ".join(near),
                    )
                )
            )
        return errors

    def pick(self, gradients: dict[str, torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
        """Return those of these gradients, each with its position."""
        picked: list[tuple[int, torch.Tensor]] = []
        for position, spec in enumerate(self.specs):
            gradient = gradients.get(spec.parameter)
            if gradient is None or spec in self._refused or gradient.layout is not torch.strided:
                continue
            try:
                scalar = held_element(gradient, spec.within(gradient.shape).index)
            except SeismogradError as error:
                self._refused.add(spec)
                self._refuse(error)
                continue
            if scalar is not None:
                picked.append((position, scalar))
        return picked


def current_plan(
    window: OptimizerWindow, parameter_table: ParameterTable, held: list[torch.Tensor]
) -> ReadingPlan | None:
    """Return the plan of the window if it covers the optimizer's current parameters."""
    known = window.plan
    # Ids distinguish tensors as long as none of them is gone.
    if (
        known is None
        or known.version != parameter_table.version
        or known.num_gone != parameter_table.num_gone
        or known.ids != list(map(id, held))
    ):
        return None
    return known


def make_plan(
    window: OptimizerWindow, parameter_table: ParameterTable, held: list[torch.Tensor]
) -> ReadingPlan:
    """Return the optimizer's parameters and their columns, computed anew only when either has
    changed.
    """
    known = current_plan(window, parameter_table, held)
    if known is not None:
        return known
    columns = tuple(parameter_table.column(p) for p in held)
    unowned = parameter_table.unowned({parameter_table.model(c) for c in columns} - {-1})
    window.plan = ReadingPlan(
        parameter_table.version,
        parameter_table.num_gone,
        list(map(id, held)),
        columns,
        np.asarray(columns, np.int64),
        np.asarray([_numel(p) for p in held], np.int64),
        columns == tuple(range(len(parameter_table.parameters))),
        not all(parameter_table.parameters[c].trainable for c in columns),
        [(weakref.ref(p), c) for p, c in unowned],
    )
    return window.plan


def track_clearing(window: OptimizerWindow) -> None:
    """Start to follow how the optimizer's gradients are cleared."""
    window.clearing = ClearingTracker([p for p in window.held() if p.requires_grad])


def look_at_others(window: OptimizerWindow) -> None:
    """Follow other parameters, if any trains, when all the followed ones are frozen. Those frozen
    for a while, like one half of a GAN while the other is trained, stay.
    """
    trained = [p for p in window.held() if p.requires_grad]
    if trained:
        window.clearing = ClearingTracker(trained)


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
    full: bool = True,
) -> GradientReading:
    """Read the gradients of the optimizer and of its models' parameters that nobody updates.

    `held` are its parameters and `planned` is their plan. `waiting` scalars on a device are brought
    over in the same transfer. `extra_losses` belong to a backward that has not ended yet. Unless
    `full`, gradients that are all finite are not measured.
    """
    gradients = [p.grad for p in held]
    if not full and all_finite([g for g in gradients if g is not None]):
        return _not_measured(window, planned, gradients, len(elements), extra_losses)
    losses = (*window.losses, *extra_losses)
    mask: BoolArray | None = None
    if not planned.unowned and not planned.frozen and set(map(type, gradients)) <= PLAIN:
        if not waiting and not len(elements):
            measured = backend.measure(
                cast(list[torch.Tensor], gradients), held, planned.columns, (), sample
            )
            if measured.pending is None:
                values, samples = measured.values, measured.samples
                scale, loss_scale, whole = window.grad_scale, window.loss_scale, planned.whole
                return GradientReading(
                    planned.positions,
                    planned.numels,
                    None,
                    values,
                    samples,
                    NO_ELEMENTS,
                    scale,
                    losses,
                    loss_scale,
                    whole,
                )
            return _arriving(
                window,
                planned,
                planned.positions,
                planned.numels,
                measured,
                None,
                [],
                [],
                0,
                losses,
            )
        listed, owners, keys = gradients, held, planned.columns
        columns, numels = planned.positions, planned.numels
    else:
        parameters, numbers = _with_unowned(held, planned)
        gradients = [p.grad for p in parameters]
        mask = np.asarray([g is not None for g in gradients], bool)
        present = [
            (g, p, c)
            for g, p, c in zip(gradients, parameters, numbers, strict=True)
            if g is not None
        ]
        listed, owners, keys = (
            [g for g, _, _ in present],
            [p for _, p, _ in present],
            tuple(c for _, _, c in present),
        )
        parameter_table.thaw(keys)
        columns, numels = (
            np.asarray(numbers, np.int64),
            np.asarray([0 if g is None else _numel(g) for g in gradients], np.int64),
        )
    picked = (
        elements.pick(
            {
                parameter_table.parameters[c].name: g
                for g, c in zip(listed, keys, strict=True)
                if g is not None
            }
        )
        if len(elements)
        else []
    )
    pending = [(s, s.tensor) for s in waiting if s.tensor is not None]
    brought = [t for _, t in picked] + [t for _, t in pending]
    measured = backend.measure(cast(list[torch.Tensor], listed), owners, keys, brought, sample)
    scalars = [s for s, _ in pending]
    return _arriving(
        window,
        planned,
        columns,
        numels,
        measured,
        mask,
        [position for position, _ in picked],
        scalars,
        len(elements),
        losses,
    )


def _arriving(
    window: OptimizerWindow,
    planned: ReadingPlan,
    columns: IntArray,
    numels: IntArray,
    measured: Measurement,
    mask: BoolArray | None,
    picked: Sequence[int],
    pending: Sequence[Scalar],
    num_elements: int,
    losses: tuple[Scalar, ...],
) -> GradientReading:
    """Return a reading that takes its numbers from `measured` when they arrive. `mask`: which
    gradients exist, `None` where all do.
    """
    values, samples = measured.values, measured.samples
    if mask is not None:
        values, samples = (
            {name: _spread(v.shape[1:], len(mask)) for name, v in numbers.items()}
            for numbers in (values, samples)
        )
    reading = GradientReading(
        columns=columns,
        numels=numels,
        present=None if mask is None else mask.tolist(),
        values=values,
        samples=samples,
        elements=np.full(num_elements, np.nan),
        scale=window.grad_scale,
        losses=losses,
        loss_scale=window.loss_scale,
        whole=planned.whole and columns is planned.positions,
    )

    def complete() -> None:
        """Use the numbers, which have arrived."""
        for scalar, value in zip(pending, measured.scalars[len(picked) :], strict=True):
            scalar.settle(float(value))
        for position, value in zip(picked, measured.scalars, strict=False):
            reading.elements[position] = value
        if mask is not None:
            for spread, numbers in (
                (reading.values, measured.values),
                (reading.samples, measured.samples),
            ):
                for name, value in numbers.items():
                    spread[name][mask] = value

    if measured.pending is None or measured.pending.is_done():
        if measured.pending is not None:
            measured.pending.finish()
        complete()
    else:
        reading.arrival = PendingReading(measured.pending, complete)
    return reading


def _not_measured(
    window: OptimizerWindow,
    planned: ReadingPlan,
    gradients: Sequence[torch.Tensor | None],
    num_elements: int,
    extra_losses: Sequence[Scalar],
) -> GradientReading:
    """Return what is known of gradients that were only checked: which exist."""
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
    )


def _with_unowned(
    held: list[torch.Tensor], planned: ReadingPlan
) -> tuple[list[torch.Tensor], list[int]]:
    """Return the parameters and columns of the plan, and of those with a gradient that no optimizer
    holds.
    """
    parameters, columns = list(held), list(planned.columns)
    for reference, column in planned.unowned:
        tensor = reference()
        if tensor is not None and tensor.grad is not None:
            parameters.append(tensor)
            columns.append(column)
    return parameters, columns


def carried_columns(window: OptimizerWindow, parameter_table: ParameterTable) -> IntArray:
    """Return the columns whose gradient holds what an earlier step used; all of them when all the
    followed ones do.
    """
    marks = window.clearing.carried_over()
    if True not in marks:
        return NO_COLUMNS
    seen = [
        p
        for ref, mark in zip(window.clearing.parameters, marks, strict=True)
        if mark and (p := ref()) is not None
    ]
    looked_at = [
        p for ref in window.clearing.parameters if (p := ref()) is not None and p.grad is not None
    ]
    columns = (
        make_plan(window, parameter_table, window.held()).columns
        if len(seen) == len(looked_at)
        else [parameter_table.column(p) for p in seen]
    )
    return np.asarray(columns, np.int64)


def columns_of(
    ids: frozenset[int], window: OptimizerWindow, parameter_table: ParameterTable
) -> IntArray:
    """Return the columns of those of the window's parameters that have these ids."""
    return np.asarray(
        [parameter_table.column(p) for p in window.held() if id(p) in ids and p in parameter_table],
        np.int64,
    )


def _numel(gradient: torch.Tensor) -> int:
    """Return how many of its scalars this process holds."""
    return num_held(gradient) * (2 if gradient.is_complex() else 1)


def _spread(shape: tuple[int, ...], num: int) -> FloatArray:
    """Return NaN for each of so many gradients."""
    return np.full((num, *shape), np.nan)
