"""The copies that the update probe makes before a step, and their comparison after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.intended_updates import (
    COARSE,
    Cut,
    fine_copy,
    intended_update,
)
from seismograd.capture.probes.intended_updates import ratio as ratio_of
from seismograd.capture.probes.probed_tensors import (
    Layout,
    comparable_weight,
    gradient_like,
    has_layout,
    has_layout_of,
    layout_of,
    slice_after,
)
from seismograd.capture.probes.probed_updates import UNMOVED, UPDATE_RATIO, ProbedUpdates
from seismograd.capture.probes.slice_positions import Box, box, flat, leap_length
from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import DTYPE_CODES
from seismograd.measure.native.slice_copies import Slice, SliceCopies
from seismograd.measure.weight_updates import SliceGroup, compare, keep
from seismograd.schema import FloatArray
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

MOSTLY_UNMOVED = 0.5
# of a probe whose slices all are the kernel's: not made for each, and never written to
NO_OTHERS: tuple[list[Any], list[Any], list[Any]] = [], [], []


@dataclass(slots=True)
class PendingProbe:
    """The probe of a step that is not over: slices copied by the kernel (`slices`), and by torch
    (`others`, each with its box).

    For 16-bit weights the ratio is that of the update before rounding (`intended_updates`). Where
    that is not known, it is that of the actual change if most scalars moved, else NaN.
    """

    closure: bool
    copies: SliceCopies | None  # the kernel's; `None` where there is no kernel
    slices: list[Slice] = field(default_factory=list[Slice])
    # of the weights, before the step
    dtypes: list[torch.dtype] = field(default_factory=list[torch.dtype])
    others: list[tuple[torch.Tensor, Box]] = field(default_factory=list[tuple[torch.Tensor, Box]])
    layouts: list[Layout] = field(default_factory=list[Layout])
    kept: list[SliceGroup] = field(default_factory=list[SliceGroup])
    # finer copies of the weights, by position
    fine: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor])

    def add_some(
        self, held: Sequence[torch.Tensor], at: int, turn: int, num: int, room: int
    ) -> tuple[int, int]:
        """Add slices of so many parameters, beginning with the one at this position, and return
        where to go on, and in which turn: with no call for one that the kernel takes.
        """
        for _ in range(len(held)):
            parameter, own_turn = held[at % len(held)], turn
            at += 1
            if at >= len(held):
                at, turn = 0, turn + 1
            gradient, start, count = parameter.grad, 0, 0
            if (
                self.copies is not None
                and gradient is not None
                and tensor_reads.number_of_dtype(parameter, DTYPE_CODES) >= 0
                and tensor_reads.number_of_dtype(gradient, DTYPE_CODES) >= 0
                and parameter.numel() == gradient.numel()
            ):  # as `add` does
                numel = count = parameter.numel()
                if numel > room:  # as `flat` does
                    places = -(-numel // room)
                    start = min(own_turn * leap_length(places) % places * room, numel - room)
                    count = room
                if count:
                    self.slices.append(
                        (parameter, None if self.closure else gradient, start, count)
                    )
                    self.dtypes.append(parameter.dtype)
            elif self.add(parameter, own_turn, room):
                count = 1
            num -= count > 0
            if num == 0:
                break
        return at, turn

    def add(self, parameter: torch.Tensor, turn: int, room: int) -> bool:
        """Add a slice of the parameter to those of this step, if it can be compared."""
        gradient = parameter.grad
        copies = self.copies
        if copies is not None and copies.takes(parameter):
            if gradient is None and not self.closure:
                return False
            count = parameter.numel()
            if gradient is None or (copies.takes(gradient) and gradient.numel() == count):
                if count:
                    self.slices.append(
                        (parameter, None if self.closure else gradient, *flat(count, room, turn))
                    )
                    self.dtypes.append(parameter.dtype)
                return count > 0
        weight = comparable_weight(parameter)
        if weight is None or not (self.closure or has_layout_of(gradient, weight)):
            return False
        self.others.append((parameter, box(weight.shape, room, turn)))
        self.layouts.append(layout_of(weight))
        return True

    def keep(self, optimizer: object) -> None:
        """Copy the slices, before the step."""
        if self.slices and self.copies is not None:
            self.copies.keep(self.slices)
        if self.others:
            weights = [held_part(p)[box] for p, box in self.others]
            self.kept = keep(
                weights, None if self.closure else [gradient_like(p)[box] for p, box in self.others]
            )
        self.keep_fine(optimizer)

    def keep_fine(self, optimizer: object) -> None:
        """Copy what an optimizer has of these weights in more than 16 bits."""
        coarse = self._coarse(self._parameters())
        if coarse:
            with without_user_modes():
                for position in coarse:
                    copy = fine_copy(optimizer, *self._cut(position))
                    if copy is not None:
                        self.fine[position] = copy.clone()

    def compare(
        self, parameter_table: ParameterTable, left_out: object, optimizer: object
    ) -> ProbedUpdates:
        """Compare the copies with the weights after the step; see `UpdateProbe.step_ends`."""
        if (
            left_out is None
            and not self.closure
            and not self.others
            and self.copies is not None
            and COARSE.isdisjoint(self.dtypes)
        ):  # as nearly always: the same with fewer calls, as the next ones are not in the caches
            compared = self.copies.compare_kept(self.slices, self.dtypes)
            if compared is not None:
                probed: list[torch.Tensor] = []
                for each in self.slices:
                    probed.append(each[0])  # noqa: PERF401
                return ProbedUpdates(parameter_table.columns(probed), compared, [])
        return self._compare_all(parameter_table, left_out, optimizer)

    def _compare_all(
        self, parameter_table: ParameterTable, left_out: object, optimizer: object
    ) -> ProbedUpdates:
        parameters = self._parameters()
        compared: FloatArray | None = None
        if (
            self.slices
            and self.copies is not None
            and not (isinstance(left_out, torch.Tensor) and bool(left_out.any()))
        ):
            compared = self._compare_slices(self.copies)
        numbers = compared
        if numbers is None or self.others:
            numbers = np.full((2, len(parameters)), math.nan)
            if compared is not None:
                numbers[:, : len(self.slices)] = compared
        probed = ProbedUpdates(parameter_table.columns(parameters), numbers)
        if self.others:
            self._compare_others(probed, left_out)
        coarse = self._coarse(parameters)
        if coarse:
            with without_user_modes():
                for position in coarse:
                    self._before_rounding(position, probed, left_out, optimizer)
        return probed

    def _compare_slices(self, copies: SliceCopies) -> FloatArray | None:
        """Return what the step has done to the slices, or `None` where a weight was replaced."""
        after: list[Slice] = []
        for before, dtype in zip(self.slices, self.dtypes, strict=True):
            parameter, _, start, count = before
            now: Slice | None = parameter, None, start, count
            if (
                self.closure
                or parameter.dtype != dtype
                or tensor_reads.number_of_dtype(parameter, DTYPE_CODES) < 0
                or parameter.numel() < start + count
            ):  # without a call where none of that is so
                now = slice_after(before, dtype, self.closure)
            if now is None:
                return None
            after.append(now)
        return copies.compare(after)

    def _parameters(self) -> list[torch.Tensor]:
        first: list[torch.Tensor] = []
        for each in self.slices:  # a comprehension would be one more call
            first.append(each[0])  # noqa: PERF401
        return first + [p for p, _ in self.others] if self.others else first

    @staticmethod
    def _coarse(parameters: Sequence[torch.Tensor]) -> list[int]:
        """Return the positions of weights whose rounding may be as large as their update."""
        found: list[int] = []
        for position, each in enumerate(parameters):
            if each.dtype in COARSE and is_readable(each):
                found.append(position)
        return found

    def _cut(self, position: int) -> tuple[torch.Tensor, Cut]:
        """Return the parameter at this position, and a function that takes its probed scalars out
        of a tensor of its shape.
        """
        if position < len(self.slices):
            parameter, _, start, count = self.slices[position]
            return parameter, lambda tensor: tensor.reshape(-1)[start : start + count]
        parameter, box = self.others[position - len(self.slices)]
        return parameter, lambda tensor: tensor[box].reshape(-1)

    def _compare_others(self, probed: ProbedUpdates, left_out: object) -> None:
        if not all(
            has_layout(p, layout) for (p, _), layout in zip(self.others, self.layouts, strict=True)
        ):
            return  # gathered, freed or replaced in the step: there is nothing to compare with
        weights = [held_part(p)[box] for p, box in self.others]
        gradients = None
        if self.closure:
            gradients = [gradient_like(p)[box] for p, box in self.others]
        for updates in compare(self.kept, weights, gradients):
            numbers, positions = (
                updates.numbers,
                [len(self.slices) + position for position in updates.positions],
            )
            if isinstance(left_out, torch.Tensor):
                numbers = torch.where(
                    held_part(left_out).to(numbers.device) != 0, math.nan, numbers
                )
            if numbers.device.type == "cpu":
                probed.numbers[:, positions] = numbers.numpy()
            else:
                probed.waiting.extend(
                    (n, at, Scalar.on_device(numbers[n, i]))
                    for n in (0, 1)
                    for i, at in enumerate(positions)
                )

    def _before_rounding(
        self, position: int, probed: ProbedUpdates, left_out: object, optimizer: object
    ) -> None:
        """Fill in the ratio of the update before rounding, or remove that of an update that
        rounding has undone.
        """
        parameter, cut = self._cut(position)
        waiting = {which: scalar for which, at, scalar in probed.waiting if at == position}
        ratio, unmoved = (
            torch.as_tensor(waiting[n].tensor if n in waiting else probed.numbers[n, position])
            for n in (UPDATE_RATIO, UNMOVED)
        )
        before, now = self.fine.get(position), fine_copy(optimizer, parameter, cut)
        if before is not None and now is not None:
            wanted = ratio_of(now - before, before)
        else:
            update = intended_update(optimizer, parameter, cut)
            wanted = None if update is None else ratio_of(update, cut(held_part(parameter)))
        if wanted is None:
            wanted = torch.where(unmoved > MOSTLY_UNMOVED, math.nan, ratio)
        elif isinstance(left_out, torch.Tensor):
            wanted = torch.where(held_part(left_out).to(wanted.device).sum() != 0, math.nan, wanted)
        if UPDATE_RATIO in waiting:
            waiting[UPDATE_RATIO].tensor = wanted
        else:
            probed.numbers[UPDATE_RATIO, position] = float(wanted)
