"""Look at what optimizers remember of their gradients, in sampled steps, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_groups import attribute, groups_of, setting
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.parameter_state import MAX_SLICE, OF, Entry, Numbers, numbers_of
from seismograd.schema import SAMPLE_FIELDS, SampleBatch, SampleKind, SampleSubject
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import without_user_modes

EVERY, FIRST = 100, 10  # steps of an optimizer: early once, for short trainings
MAX_PARAMETERS = 16  # in a sampled step, in turn
MAX_SCALARS = 1 << 18  # in a sampled step, of all
FIELDS = SAMPLE_FIELDS[SampleKind.OPTIMIZER_STATE].names


@dataclass(slots=True)
class _MeasuredState:
    """Numbers of one parameter that may still be on a device; `names` says which."""

    subject: SampleSubject
    names: tuple[str, ...]
    numbers: list[float] | Tensor


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
            if all(isinstance(each.numbers, list) or each.numbers.is_cpu for each in measured):
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
            found = numbers_of(
                parameter, group, cast("Entry", entry), turn=turn, scale=scale, is_made=is_made
            )
            if found:
                name = self._table.parameters[self._table.column(parameter)].name
                measured.append(_MeasuredState(SampleSubject(name), tuple(found), _together(found)))
            room -= min(parameter.numel(), MAX_SLICE)
            if room <= 0:
                break
        return measured


def _batch(pending: _Pending) -> SampleBatch:
    shape = (len(pending.measured), len(FIELDS))
    values, known = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    for row, each in enumerate(pending.measured):
        listed = each.numbers if isinstance(each.numbers, list) else _on_host(each.numbers)
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


def _together(found: Numbers) -> list[float] | Tensor:
    """Return the numbers, as one tensor where some are on a device: there."""
    tensors = [each for each in found.values() if isinstance(each, Tensor)]
    if not tensors:
        return [float(each) for each in found.values()]
    device = next((each.device for each in tensors if not each.is_cpu), torch.device("cpu"))
    return torch.stack(
        [torch.as_tensor(each, dtype=torch.float64, device=device) for each in found.values()]
    )


def _on_host(numbers: Tensor) -> list[float]:
    return cast("list[float]", numbers.tolist())  # pyright: ignore[reportUnknownMemberType]
