"""The rotating probe: of a few parameters in turn a slice of the weights is copied before each step, to see what the step made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from seismograd.listen.ranks.pieces import held_part, num_held
from seismograd.listen.roster import Roster
from seismograd.listen.scalars import Scalar
from seismograd.measure.quiet import is_capturing
from seismograd.measure.updates import Group, compare, keep
from seismograd.schema import FloatArray

EVERY = 10  # steps of its optimizer after which a parameter's turn comes again, where there are as many parameters
MAX_SLICE = 1 << 16  # scalars of one parameter
MIN_SLICE = 1 << 8
MIN_COPIED = 1 << 14  # scalars in a step that may always be copied; beyond, a fiftieth of all
MAX_SHARE_COPIED = 1 / 50

UPDATE_RATIO, UNMOVED = 0, 1


@dataclass(frozen=True, slots=True)
class Probed:
    """What a step changed, by column; numbers still on a device are in `waiting`, each with its place in `numbers`  # (2, k)."""

    columns: list[int]
    numbers: FloatArray
    waiting: list[tuple[int, int, Scalar]] = field(default_factory=list[tuple[int, int, Scalar]])

    def settled(self) -> FloatArray:
        """The update ratios and the shares of what did not move  # (2, k), waiting for the device where that must be."""
        for which, place, scalar in self.waiting:
            self.numbers[which, place] = scalar.read()
        return self.numbers


@dataclass(frozen=True, slots=True)
class Pending:
    """What was copied before a step that is not over. `slices` index the held parts of `parameters`."""

    parameters: list[torch.Tensor]
    slices: list[tuple[slice, ...]]
    kept: list[Group]
    with_gradients: bool


class Probe:
    """Of one optimizer.

    Each step a tenth of its parameters have their turn, each with a slice of its own scalars that begins elsewhere every time. In all at
    most `MIN_COPIED` scalars are copied, or a fiftieth of all, if that is more. Left out are parameters without a gradient, and those that
    are sparse, complex, without memory, or of a subclass that is not a DTensor; of a DTensor the local part is looked at.
    """

    def __init__(self) -> None:
        self._next = 0  # the place of the parameter whose turn comes
        self._round = 0
        self._known: tuple[list[int], int] = ([], 0)
        self._pending: Pending | None = None

    def step_begins(self, held: Sequence[torch.Tensor], closure: bool) -> None:
        """Copy before the step. A closure makes its gradients in the step: then every parameter counts that has none yet."""
        self._pending = None
        if not held or is_capturing():
            return
        num_wanted = math.ceil(len(held) / EVERY)
        room = min(MAX_SLICE, max(MIN_SLICE, int(max(MIN_COPIED, MAX_SHARE_COPIED * self._num_scalars(held)) // num_wanted)))
        chosen: list[torch.Tensor] = []
        slices: list[tuple[slice, ...]] = []
        weights: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        for _ in range(len(held)):
            parameter, turn = held[self._next % len(held)], self._round
            self._next += 1
            if self._next >= len(held):
                self._next, self._round = 0, self._round + 1
            weight = _weight(parameter)
            gradient = None if weight is None else _gradient(parameter, weight)
            if weight is None or (gradient is None and not closure):
                continue
            within = box(weight.shape, room, turn)
            chosen.append(parameter)
            slices.append(within)
            weights.append(weight[within])
            if gradient is not None:
                gradients.append(gradient[within])
            if len(chosen) == num_wanted:
                break
        if chosen:
            self._pending = Pending(chosen, slices, keep(weights, None if closure else gradients), not closure)

    def step_ends(self, roster: Roster, left_out: object) -> Probed | None:
        """Compare after it. `left_out`: a tensor that is not zero when the optimizer made no step after all (a fused one with a scaler)."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        weights = [held_part(p)[within] for p, within in zip(pending.parameters, pending.slices, strict=True)]
        gradients: list[torch.Tensor] | None = None
        if not pending.with_gradients:
            gradients = []
            for parameter, within, weight in zip(pending.parameters, pending.slices, weights, strict=True):
                gradient = _gradient(parameter, held_part(parameter))
                gradients.append(torch.zeros_like(weight) if gradient is None else gradient[within])
        probed = Probed([roster.column(p) if p in roster else -1 for p in pending.parameters], np.full((2, len(weights)), math.nan))
        for updates in compare(pending.kept, weights, gradients):
            numbers = updates.numbers
            if isinstance(left_out, torch.Tensor):
                numbers = torch.where(held_part(left_out).to(numbers.device) != 0, math.nan, numbers)
            if numbers.device.type == "cpu":
                probed.numbers[:, updates.places] = numbers.numpy()
            else:
                probed.waiting.extend((n, at, Scalar.on_device(numbers[n, i])) for n in (0, 1) for i, at in enumerate(updates.places))
        return probed

    def _num_scalars(self, held: Sequence[torch.Tensor]) -> int:
        ids = [id(p) for p in held]
        if self._known[0] != ids:
            self._known = (ids, sum(num_held(p) for p in held))
        return self._known[1]


def _weight(parameter: torch.Tensor) -> torch.Tensor | None:
    """What this process holds of a parameter, if it can be compared scalar by scalar."""
    held = held_part(parameter)
    if type(held) not in (torch.Tensor, torch.nn.Parameter) or held.layout is not torch.strided or held.is_meta or held.numel() == 0:
        return None
    # Sharding frees the storage of parameters it has gathered.
    return held if held.is_floating_point() and held.element_size() > 1 and held.untyped_storage().nbytes() > 0 else None


def _gradient(parameter: torch.Tensor, weight: torch.Tensor) -> torch.Tensor | None:
    """Its gradient, if it lies beside the weight scalar by scalar."""
    gradient = parameter.grad
    held = None if gradient is None else held_part(gradient)
    if held is None or held.layout is not torch.strided or held.shape != weight.shape or held.device != weight.device:
        return None
    return held


def box(shape: Sequence[int], room: int, turn: int) -> tuple[slice, ...]:
    """At most `room` scalars that follow each other in a contiguous tensor of that shape, which has some; others in the next turns.

    The turns go through the tensor in leaps, so that a few of them have seen its beginning, its middle and its end.
    """
    found: list[slice] = []
    inner = math.prod(shape)
    for size in shape:
        inner //= size
        length = min(size, max(1, room // inner))
        num_places = -(-size // length)
        start = min(_leap(turn, num_places) * length, size - length)
        found.append(slice(start, start + length))
        turn //= num_places
        room = max(1, room // length)
    return tuple(found)


def _leap(turn: int, num_places: int) -> int:
    """The place of a turn: each comes once in `num_places` turns, in leaps of about the golden section."""
    step = max(1, round(num_places * 0.618))
    while math.gcd(step, num_places) > 1:
        step += 1
    return turn * step % num_places
