"""Reads the gradients of one optimizer, as they are now, in one pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from seismograd.capture.loop.iteration import GradientReading, PendingReading
from seismograd.capture.loop.optimizer_window import ClearingTracker, OptimizerWindow, ReadingPlan
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.errors import SeismogradError
from seismograd.measure.backend import Measurement, MeasuringBackend
from seismograd.measure.finite import all_finite
from seismograd.schema import MEASURED_EVERY_TIME, FloatArray, IntArray
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.dtensor import num_held
from seismograd.tensors.shards import held_element

BoolArray = npt.NDArray[np.bool_]
Refuse = Callable[[SeismogradError], None]
PLAIN = {torch.Tensor}
NO_COLUMNS, NO_ELEMENTS = np.zeros(0, np.int64), np.zeros(0)  # nobody writes into them


class RequestedElements:
    """The single scalars that were asked for; one that a parameter does not have is refused once
    and stays NaN.
    """

    def __init__(self, specs: Sequence[ElementSpec], refuse: Refuse) -> None:
        self.specs = tuple(specs)
        self._refuse = refuse
        self._refused: set[ElementSpec] = set()

    def __len__(self) -> int:
        return len(self.specs)

    def pick(self, gradients: dict[str, torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
        """Those of these gradients, each with its place."""
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
    """The plan of the window if it is of the parameters that the optimizer has now."""
    known = window.plan
    # Ids tell tensors apart as long as none of them is gone.
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
    """The optimizer's parameters and their columns, worked out anew only when either has
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
    """Follow the clearing of the optimizer's gradients from now on."""
    window.clearing = ClearingTracker([p for p in window.held() if p.requires_grad])


def look_at_others(window: OptimizerWindow) -> None:
    """All that was looked at is frozen: follow what is trained instead, if anything is. What is
    frozen for a while, as one half of a GAN while the other is trained, stays.
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
    """Read the gradients of the optimizer and of the parameters of its models that nobody updates.

    `held` are its parameters and `planned` is their plan. `waiting` scalars on a device come over
    in the same transfer. `extra_losses` are of a backward that has not ended yet. Unless `full`,
    gradients that are all finite are not measured.
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
    """A reading of `measured`, whose numbers are used when they are there. `mask`: which
    gradients there are, `None` where all are.
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
        """Use the numbers, which are there."""
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
    """What is known of gradients that were only looked at: which are there."""
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
    """The parameters and columns of the plan, and of those that no optimizer holds but that have
    a gradient.
    """
    parameters, columns = list(held), list(planned.columns)
    for reference, column in planned.unowned:
        tensor = reference()
        if tensor is not None and tensor.grad is not None:
            parameters.append(tensor)
            columns.append(column)
    return parameters, columns


def carried_columns(window: OptimizerWindow, parameter_table: ParameterTable) -> IntArray:
    """The columns whose gradient holds what an earlier step had used; all of them when all that
    were looked at do.
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
    """The columns of those of the window's parameters whose ids these are."""
    return np.asarray(
        [parameter_table.column(p) for p in window.held() if id(p) in ids and p in parameter_table],
        np.int64,
    )


def _numel(gradient: torch.Tensor) -> int:
    """Of what this process holds of it."""
    return num_held(gradient) * (2 if gradient.is_complex() else 1)


def _spread(shape: tuple[int, ...], num: int) -> FloatArray:
    """NaN for each of so many gradients."""
    return np.full((num, *shape), np.nan)
