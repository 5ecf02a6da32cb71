"""The rotating update probe: before each step it copies slices of a few parameters in turn, to
measure the update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.intended_updates import Cut, fine_copy, intended_update, is_coarse
from seismograd.capture.probes.intended_updates import ratio as ratio_of
from seismograd.measure.backend_selection import best_copies
from seismograd.measure.native.slice_copies import Slice, SliceCopies
from seismograd.measure.weight_updates import SliceGroup, compare, keep
from seismograd.schema import FloatArray
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.dtensor import held_part, num_held
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable
from seismograd.tensors.isolation import without_user_modes

EVERY = 10  # steps of its optimizer after which a parameter's turn comes again, if there are few
FEWEST_TURNS = 8  # in a step: copying several together takes half as long as one by one
MOST_TURNS = 16  # in a step
NUM_DENSE = 100  # the first steps, each of which probes at least one parameter
MAX_SLICE = 1 << 16  # scalars of one parameter
MIN_SLICE = 1 << 8
MIN_COPIED = 1 << 14  # scalars that may always be copied in a step; beyond that, one in two hundred
MAX_SHARE_COPIED = 1 / 200

MOSTLY_UNMOVED = 0.5

UPDATE_RATIO, UNMOVED = 0, 1
Box = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class ProbedUpdates:
    """What a step changed, by column; numbers still on a device are in `waiting`, each with its
    position in `numbers`  # (2, k).
    """

    columns: list[int]
    numbers: FloatArray
    waiting: list[tuple[int, int, Scalar]] = field(default_factory=list[tuple[int, int, Scalar]])

    def settled(self) -> FloatArray:
        """Return the update ratios and the unchanged shares  # (2, k), waiting for the device if
        necessary.
        """
        for which, position, scalar in self.waiting:
            self.numbers[which, position] = scalar.read()
        return self.numbers


@dataclass(slots=True)
class PendingProbe:
    """Copies from before a step that is not over: made by the kernel (`slices`), and by torch
    (`others`, each with its cut).
    """

    closure: bool
    slices: list[Slice] = field(default_factory=list[Slice])
    # of the weights, before the step
    dtypes: list[torch.dtype] = field(default_factory=list[torch.dtype])
    others: list[tuple[torch.Tensor, Box]] = field(default_factory=list[tuple[torch.Tensor, Box]])
    shapes: list[tuple[torch.Size, torch.dtype, torch.device]] = field(
        default_factory=list[tuple[torch.Size, torch.dtype, torch.device]]
    )
    kept: list[SliceGroup] = field(default_factory=list[SliceGroup])
    # finer copies of the weights, by position
    fine: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor])

    def cut(self, position: int) -> tuple[torch.Tensor, Cut]:
        """Return the parameter at this position, and a function that takes its probed scalars out
        of a tensor of its shape.
        """
        if position < len(self.slices):
            parameter, _, start, count = self.slices[position]
            return parameter, lambda tensor: tensor.reshape(-1)[start : start + count]
        parameter, box = self.others[position - len(self.slices)]
        return parameter, lambda tensor: tensor[box].reshape(-1)

    def coarse(self) -> list[int]:
        """Return the positions of weights whose rounding may be as large as their update."""
        parameters = [s[0] for s in self.slices] + [p for p, _ in self.others]
        return [
            position
            for position, each in enumerate(parameters)
            if is_readable(each) and is_coarse(each)
        ]


class UpdateProbe:
    """The update probe of one optimizer.

    Each step probes a tenth of its parameters, `MOST_TURNS` at most, each with a slice of its own
    scalars that begins elsewhere every time; with few parameters, several share a step every so
    many steps. At most `MIN_COPIED` scalars are copied in a step, or one in two hundred, if that is
    more. Skipped are parameters without a gradient, and those that are sparse, complex, without
    memory, or of a subclass other than DTensor; for a DTensor the local part is probed.

    For 16-bit weights the ratio is that of the update before rounding (`intended`). Where that is
    not known, it is that of the actual change if most scalars moved, else NaN.
    """

    def __init__(self) -> None:
        self._next = 0  # position of the parameter whose turn is next
        self._round = 0
        self._num_steps = 0
        self._due = 0  # turns that are due, times EVERY
        self._known: tuple[list[int], int] = ([], 0)
        self._copies = best_copies()
        self._pending: PendingProbe | None = None

    @property
    def is_under_way(self) -> bool:
        """Return whether any copy waits for the comparison after the step."""
        return self._pending is not None

    def step_begins(
        self,
        held: Sequence[torch.Tensor],
        closure: bool,
        num_requested: int,
        optimizer: object = None,
    ) -> None:
        """Copy slices of so many parameters before the step. A closure computes its gradients
        within the step: then those without one yet count as well.
        """
        if is_capturing():
            return
        room = min(
            MAX_SLICE,
            max(
                MIN_SLICE,
                int(max(MIN_COPIED, MAX_SHARE_COPIED * self._num_scalars(held)) // num_requested),
            ),
        )
        pending = PendingProbe(closure)
        for _ in range(len(held)):
            parameter, turn = held[self._next % len(held)], self._round
            self._next += 1
            if self._next >= len(held):
                self._next, self._round = 0, self._round + 1
            if self._take(pending, parameter, turn, room):
                num_requested -= 1
                if num_requested == 0:
                    break
        if pending.slices and self._copies is not None:
            self._copies.keep(pending.slices)
        if pending.others:
            weights = [held_part(p)[box] for p, box in pending.others]
            pending.kept = keep(
                weights, None if closure else [_gradient_of(p)[box] for p, box in pending.others]
            )
        with without_user_modes():
            for position in pending.coarse():
                copy = fine_copy(optimizer, *pending.cut(position))
                if copy is not None:
                    pending.fine[position] = copy.clone()
        self._pending = pending

    def step_ends(
        self, parameter_table: ParameterTable, left_out: object, optimizer: object = None
    ) -> ProbedUpdates | None:
        """Compare after the step. `left_out`: a tensor that is not zero when the optimizer made no
        step after all (a fused one with a scaler).
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        parameters = [s[0] for s in pending.slices] + [p for p, _ in pending.others]
        probed = ProbedUpdates(
            [parameter_table.column(p) if p in parameter_table else -1 for p in parameters],
            np.full((2, len(parameters)), math.nan),
        )
        if (
            pending.slices
            and self._copies is not None
            and not (isinstance(left_out, torch.Tensor) and bool(left_out.any()))
        ):
            after = [
                _after(s, dtype, pending.closure)
                for s, dtype in zip(pending.slices, pending.dtypes, strict=True)
            ]
            if None not in after:
                probed.numbers[:, : len(after)] = self._copies.compare(
                    [s for s in after if s is not None]
                )
        if pending.others:
            self._compare_others(pending, probed, left_out)
        with without_user_modes():
            for position in pending.coarse():
                self._before_rounding(pending, position, probed, left_out, optimizer)
        return probed

    def forget(self) -> None:
        """Forget the copies: the step is not made."""
        self._pending = None

    def _before_rounding(
        self,
        pending: PendingProbe,
        position: int,
        probed: ProbedUpdates,
        left_out: object,
        optimizer: object,
    ) -> None:
        """Fill in the ratio of the update before rounding, or remove that of an update that
        rounding has undone.
        """
        parameter, cut = pending.cut(position)
        waiting = {which: scalar for which, at, scalar in probed.waiting if at == position}
        ratio, unmoved = (
            torch.as_tensor(waiting[n].tensor if n in waiting else probed.numbers[n, position])
            for n in (UPDATE_RATIO, UNMOVED)
        )
        before, now = pending.fine.get(position), fine_copy(optimizer, parameter, cut)
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

    def _take(self, pending: PendingProbe, parameter: torch.Tensor, turn: int, room: int) -> bool:
        """Add a slice of the parameter to those of this step, if it can be compared."""
        gradient = parameter.grad
        copies = self._copies
        if copies is not None and copies.takes(parameter):
            if gradient is None and not pending.closure:
                return False
            count = parameter.numel()
            if gradient is None or (copies.takes(gradient) and gradient.numel() == count):
                if count:
                    pending.slices.append(
                        (parameter, None if pending.closure else gradient, *flat(count, room, turn))
                    )
                    pending.dtypes.append(parameter.dtype)
                return count > 0
        weight = _weight(parameter)
        if weight is None or not (pending.closure or _gradient_slice(gradient, weight)):
            return False
        pending.others.append((parameter, box(weight.shape, room, turn)))
        pending.shapes.append(_kind_of(weight))
        return True

    def _compare_others(
        self, pending: PendingProbe, probed: ProbedUpdates, left_out: object
    ) -> None:
        if not all(
            _is_as_kept(p, shape)
            for (p, _), shape in zip(pending.others, pending.shapes, strict=True)
        ):
            return  # gathered, freed or replaced in the step: there is nothing to compare with
        weights = [held_part(p)[box] for p, box in pending.others]
        gradients = None
        if pending.closure:
            gradients = [_gradient_of(p)[box] for p, box in pending.others]
        for updates in compare(pending.kept, weights, gradients):
            numbers, positions = (
                updates.numbers,
                [len(pending.slices) + position for position in updates.positions],
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

    def num_requested(self, num_parameters: int) -> int:
        """Return how many parameters to probe in the next step; call it once a step. A step that
        has not ended is forgotten.
        """
        self._pending = None
        self._num_steps += 1
        if self._num_steps <= NUM_DENSE:
            return min(math.ceil(num_parameters / EVERY), MOST_TURNS)
        self._due = min(self._due + num_parameters, MOST_TURNS * EVERY)
        if self._due < min(num_parameters, FEWEST_TURNS) * EVERY:
            return 0
        num_requested, self._due = divmod(self._due, EVERY)
        return num_requested

    def _num_scalars(self, held: Sequence[torch.Tensor]) -> int:
        ids = list(map(id, held))
        if self._known[0] != ids:
            self._known = (ids, sum(num_held(p) for p in held))
        return self._known[1]


def _weight(parameter: torch.Tensor) -> torch.Tensor | None:
    """Return what this process holds of a parameter, if it can be compared scalar by scalar."""
    held = held_part(parameter)
    if type(held) not in PLAIN_TYPES or held.layout is not torch.strided or held.numel() == 0:
        return None
    return (
        held if held.is_floating_point() and held.element_size() > 1 and is_readable(held) else None
    )


def _kind_of(weight: torch.Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return weight.shape, weight.dtype, weight.device


def _is_as_kept(
    parameter: torch.Tensor, kind: tuple[torch.Size, torch.dtype, torch.device]
) -> bool:
    """Return whether the weight can still be read, and has the same layout."""
    weight = _weight(parameter)
    return weight is not None and _kind_of(weight) == kind


def _gradient_slice(gradient: torch.Tensor | None, weight: torch.Tensor) -> bool:
    """Return whether the gradient has the same memory layout as the weight."""
    held = None if gradient is None else held_part(gradient)
    if (
        held is None
        or held.layout is not torch.strided
        or held.shape != weight.shape
        or held.device != weight.device
    ):
        return False
    return is_readable(held)


def _gradient_of(parameter: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of the gradient; zeros where there is none with the layout of
    the weight.
    """
    weight, gradient = held_part(parameter), parameter.grad
    return (
        held_part(gradient)
        if gradient is not None and _gradient_slice(gradient, weight)
        else torch.zeros_like(weight)
    )


def _after(before: Slice, dtype: torch.dtype, closure: bool) -> Slice | None:
    """Return the slice after the step; `None` where the weight has been replaced."""
    parameter, _, start, count = before
    if (
        not SliceCopies.takes(parameter)
        or parameter.numel() < start + count
        or parameter.dtype != dtype
    ):
        return None
    if not closure:
        return parameter, None, start, count
    gradient = parameter.grad
    if gradient is None or not SliceCopies.takes(gradient) or gradient.numel() != parameter.numel():
        gradient = torch.zeros(parameter.shape, dtype=parameter.dtype, device="cpu")
    return parameter, gradient, start, count


def flat(count: int, room: int, turn: int) -> tuple[int, int]:
    """Return where this turn's slice of a contiguous tensor begins, and how many scalars it has;
    see `box`.
    """
    if count <= room:
        return 0, count
    return min(_leap(turn, -(-count // room)) * room, count - room), room


def box(shape: Sequence[int], room: int, turn: int) -> Box:
    """Return a box of at most `room` scalars of a non-empty tensor of that shape; other scalars in
    later turns.

    The turns leap through the tensor, so that a few of them have seen its beginning, its middle and
    its end.
    """
    found: list[slice] = []
    inner = math.prod(shape)
    for size in shape:
        inner //= size
        length = min(size, max(1, room // inner))
        num_positions = -(-size // length)
        start = min(_leap(turn, num_positions) * length, size - length)
        found.append(slice(start, start + length))
        turn //= num_positions
        room = max(1, room // length)
    return tuple(found)


def _leap(turn: int, num_positions: int) -> int:
    """Return the position of a turn: each comes once in `num_positions` turns, in leaps of about
    the golden ratio.
    """
    return turn * _leap_length(num_positions) % num_positions


@lru_cache(maxsize=4096)
def _leap_length(num_positions: int) -> int:
    length = max(1, round(num_positions * 0.618))
    while math.gcd(length, num_positions) > 1:
        length += 1
    return length
