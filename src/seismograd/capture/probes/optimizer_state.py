"""Look at what optimizers remember of their gradients, in sampled steps: found by the names that
torch's optimizers give it, whoever wrote the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_groups import attribute, groups_of, setting
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import SAMPLE_FIELDS, SampleBatch, SampleKind, SampleSubject
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.dtensor import distributed_tensor, held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

EVERY, FIRST = 100, 10  # steps of an optimizer: early once, for short trainings
MAX_PARAMETERS = 16  # in a sampled step, in turn
MAX_SLICE = 1 << 14  # scalars that are looked at of each
MAX_SCALARS = 1 << 18  # in a sampled step, of all
MAX_MATRIX = 1 << 22  # scalars of which a whole norm is computed
OF = "of "  # before the name of a number: of how many scalars it is, or in relation to what
SECOND_MOMENTS = ("max_exp_avg_sq", "exp_avg_sq", "square_avg", "sum")
FIELDS = SAMPLE_FIELDS[SampleKind.OPTIMIZER_STATE].names

Entry = Mapping[str, Any]


@dataclass(slots=True)
class _MeasuredState:
    """Numbers of one parameter that may still be on a device; `names` says which."""

    subject: SampleSubject
    names: tuple[str, ...]
    numbers: Tensor


@dataclass(slots=True)
class _Pending:
    """What was measured in a step."""

    step: int
    optimizer: int
    measured: list[_MeasuredState]


class OptimizerStateProbe:
    """Measures a slice of some parameters' states in each sampled step, and of others in the next.

    Numbers on a device are fetched at the next sampled step, so that none waits for them.
    """

    def __init__(
        self,
        table: ParameterTable,
        emit: Callable[[SampleBatch], None],
        number: Callable[[], int],
    ) -> None:
        self._table, self._emit, self._number = table, emit, number
        self._next: dict[int, int] = {}  # parameter to begin with, by the number of the optimizer
        self._turns: dict[int, int] = {}
        self._pending: list[_Pending] = []

    def look(self, window: OptimizerWindow, optimizer: Any, is_made: bool) -> None:
        """Measure the state that a sampled step of an optimizer finds; `is_made`: that it leaves,
        where it has computed the gradients itself.
        """
        self.finish()
        state: Any = attribute(optimizer, "state")
        if not isinstance(state, dict) or not state or is_capturing():
            return
        with without_user_modes():
            measured = self._measured(
                window, optimizer, cast("dict[Tensor, Any]", state), is_made=is_made
            )
        if measured:
            self._pending.append(_Pending(self._number(), window.index, measured))
            if all(each.numbers.is_cpu for each in measured):
                self.finish()

    def finish(self) -> None:
        """Hand on what has been measured; waits for a device if necessary."""
        pending, self._pending = self._pending, []
        for each in pending:
            self._emit(_batch(each))

    def _measured(
        self,
        window: OptimizerWindow,
        optimizer: Any,
        state: dict[Tensor, Any],
        *,
        is_made: bool,
    ) -> list[_MeasuredState]:
        scale = 1.0 if window.grad_scale is None else window.grad_scale.read()
        held = [
            (parameter, group)
            for group in groups_of(optimizer)
            for parameter in setting(group, "params")
        ]
        measured: list[_MeasuredState] = []
        room, first = MAX_SCALARS, self._next.get(window.index, 0)
        turn = self._turns.get(window.index, 0)
        for number in range(min(len(held), MAX_PARAMETERS)):
            position = (first + number) % len(held)
            parameter, group = held[position]
            if position == len(held) - 1:
                turn += 1
            self._next[window.index], self._turns[window.index] = position + 1, turn
            # a defaultdict would make an entry for what is only asked for
            entry: Any = dict.get(state, parameter)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if not isinstance(entry, dict) or parameter not in self._table:
                continue
            found = _numbers_of(
                parameter, group, cast("Entry", entry), turn=turn, scale=scale, is_made=is_made
            )
            if found:
                name = self._table.parameters[self._table.column(parameter)].name
                measured.append(_MeasuredState(SampleSubject(name), tuple(found), _stacked(found)))
            room -= min(parameter.numel(), MAX_SLICE)
            if room <= 0:
                break
        return measured


def _batch(pending: _Pending) -> SampleBatch:
    shape = (len(pending.measured), len(FIELDS))
    values, known = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    for row, each in enumerate(pending.measured):
        listed = cast("list[float]", each.numbers.tolist())  # pyright: ignore[reportUnknownMemberType]
        numbers = dict(zip(each.names, listed, strict=True))
        for column, name in enumerate(FIELDS):
            # of no scalars, or in relation to nothing: not measured
            if name in numbers and numbers.get(OF + name, 1.0) > 0:
                values[row, column], known[row, column] = numbers[name], True
    return SampleBatch(
        SampleKind.OPTIMIZER_STATE,
        pending.step,
        [each.subject for each in pending.measured],
        values,
        known,
        pending.optimizer,
    )


def _stacked(found: Mapping[str, Tensor | float]) -> Tensor:
    """Return the numbers as one tensor, on the device where they are."""
    devices = [each.device for each in found.values() if isinstance(each, Tensor)]
    device = next((each for each in devices if each.type != "cpu"), torch.device("cpu"))
    return torch.stack(
        [torch.as_tensor(each, dtype=torch.float64, device=device) for each in found.values()]
    )


def _numbers_of(
    parameter: Tensor, group: Any, entry: Entry, *, turn: int, scale: float, is_made: bool
) -> dict[str, Tensor | float]:
    """Return what the state of one parameter shows, as far as it has what is needed for it."""
    found: dict[str, Tensor | float] = {}
    made = entry.get("step")
    if isinstance(made, int | float):
        found["age"] = float(made)
    elif isinstance(made, Tensor) and made.numel() == 1 and is_readable(made):
        found["age"] = made.detach().reshape(())
    gradient = parameter.grad
    if gradient is None or not _is_plain(gradient):
        return found
    of_second, second = _named(entry, gradient, *SECOND_MOMENTS)
    _, first = _named(entry, gradient, "exp_avg")
    _, buffer = _named(entry, gradient, "momentum_buffer")
    g = _sliced(gradient, turn)
    if scale != 1:
        g = g / scale
    if second is not None:
        bias_1, bias_2 = _biases(
            group, found.get("age"), is_averaged=of_second in SECOND_MOMENTS[:2]
        )
        root = (_sliced(second, turn) / bias_2).sqrt()
        there = root > 0
        num = there.sum()
        found["gradient_to_state"] = _rms_of_ratio(g, root, there, num)
        found[OF + "gradient_to_state"] = num
        if first is not None:
            m = _sliced(first, turn) / bias_1
            found["momentum_to_root"] = _rms_of_ratio(m, root, there, num)
            found[OF + "momentum_to_root"] = num
        eps = setting(group, "eps")
        if isinstance(eps, int | float):
            found["below_eps"] = (root < eps).double().mean()
    if buffer is not None:
        held = _sliced(buffer, turn)
        found["momentum_to_gradient"] = held.double().norm() / g.double().norm()
        found[OF + "momentum_to_gradient"] = g.count_nonzero()
        if _is_muon(group) and gradient.dim() == 2 and parameter.numel() <= MAX_MATRIX:
            norm = _newton_schulz_norm(gradient, buffer, group, scale=scale, is_made=is_made)
            found.update({} if norm is None else {"newton_schulz_norm": norm})
    return found


def _is_plain(tensor: Tensor) -> bool:
    held = held_part(tensor)
    return (
        held.layout is torch.strided
        and held.is_floating_point()
        and held.dtype.itemsize > 1
        and held.numel() > 0
        and is_readable(held)
    )


def _named(entry: Entry, like: Tensor, *names: str) -> tuple[str, Tensor | None]:
    """Return the first of these tensors that the state has, if it has a number for each of the
    gradient's.
    """
    for name in names:
        kept = entry.get(name)
        if isinstance(kept, Tensor):
            same = kept.shape == like.shape and held_part(kept).shape == held_part(like).shape
            return name, kept if same and _is_plain(kept) else None
    return "", None


def _sliced(tensor: Tensor, turn: int) -> Tensor:
    """Return some rows of what is held of a tensor, others in each turn; in single precision at
    least.
    """
    held = held_part(tensor)
    if held.dim():
        num_rows = held.shape[0]
        rows = min(num_rows, max(1, MAX_SLICE * num_rows // held.numel()))
        start = (turn * rows) % num_rows
        held = held.narrow(0, min(start, num_rows - rows), rows)
    return held if held.dtype is torch.float64 else held.float()


def _biases(
    group: Any, age: Tensor | float | None, *, is_averaged: bool
) -> tuple[Tensor | float, Tensor | float]:
    """Return what the averages of the gradients and of their squares are divided by, because they
    began with zeros; 1 where the optimizer does not divide.
    """
    betas = setting(group, "betas")
    known = isinstance(betas, tuple | list) and all(
        isinstance(each, int | float) for each in cast("list[Any]", betas)
    )
    if not is_averaged or age is None or not known:
        return 1.0, 1.0
    first, second = cast("list[float]", betas)[:2]
    return 1 - first**age, 1 - second**age


def _rms_of_ratio(numbers: Tensor, root: Tensor, there: Tensor, num: Tensor) -> Tensor:
    """Return the root mean square of the ratios where there is something to divide by: so many."""
    ratio = torch.where(there, numbers / root, 0.0).double()
    return (ratio.square().sum() / num).sqrt()


def _is_muon(group: Any) -> bool:
    return setting(group, "ns_steps") is not None


def _newton_schulz_norm(
    gradient: Tensor, buffer: Tensor, group: Any, *, scale: float, is_made: bool
) -> Tensor | None:
    """Return the norm of the matrix that the iteration orthogonalises, as Muon computes it; `None`
    where this process has only a part of it.
    """
    momentum = setting(group, "momentum")
    if distributed_tensor(gradient) is not None or not isinstance(momentum, int | float):
        return None
    g, average = gradient.detach() / scale, buffer.detach()
    if not is_made:
        average = average.lerp(g.to(average.dtype), 1 - momentum)
    nesterov = setting(group, "nesterov")
    update = g.to(average.dtype).lerp(average, momentum) if nesterov else average
    return cast("Tensor", update.double().norm())
