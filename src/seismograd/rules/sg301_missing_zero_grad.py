"""SG301 missing-zero-grad."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers, site_of
from seismograd.analysis.script_names import optimizer_name
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    IntArray,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)


@final
@dataclass
class MissingZeroGrad(Rule):
    """Gradients are never cleared, so each step reuses those of earlier steps.

    What it finds
        Training loops without `zero_grad`, or with `zero_grad` at the wrong time or on the wrong
        optimizer. `backward` adds to `.grad`; it does not replace it.

    Why it hurts
        The first step is right. The second uses the first gradient again, the third uses both, and
        so on: the gradient is a sum over all steps so far, most of it computed with outdated
        weights. Training becomes erratic, or seems to work only with a learning rate that is far
        too small, and unintended momentum makes it overshoot.

    How it decides
        The rule follows the gradients themselves, no matter how they are cleared. A parameter
        counts if the gradient that a step used still contained what an earlier step had already
        used, in two of its steps in a row, or in at least {min_scattered} steps if they are at
        least {min_share:.0%} of all. Several backward passes before one step are gradient
        accumulation, which is fine. So are steps that `GradScaler` skipped. If a step calls a
        closure several times, the first call counts.

    False alarms
        A program that deliberately keeps part of the old gradient as its own form of momentum.

    What to try
        - Call `optimizer.zero_grad()` once per step, before `backward` (or right after `step`).
        - With gradient accumulation, clear at the end of each accumulation window, where `step` is
          called; not in every iteration, and not at the end of an epoch.
        - With several optimizers or models, clear each one: `model.zero_grad()` clears only the
          gradients of that model.

    References
        - PyTorch documentation, Zeroing out gradients in PyTorch; pytorch/pytorch#47175 requests
          such a warning.
    """

    code: ClassVar[str] = "SG301"
    name: ClassVar[str] = "missing-zero-grad"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ("carried",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG102", "SG103", "SG107", "SG201", "SG202")

    min_scattered: int = 4  # steps
    min_share: float = 1 / 3  # of the parameter's steps
    min_evaluated: int = 3  # steps

    _parameters: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    # into the arrays of `_memory`
    _columns: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _memory: _ParameterHistory = field(init=False, repr=False)
    _faults: list[_MissingClearing] = field(
        default_factory=list["_MissingClearing"], init=False, repr=False
    )

    def __post_init__(self) -> None:
        self._memory = _ParameterHistory()

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        if block.parameters is not self._parameters:
            self._parameters, self._columns = (
                block.parameters,
                self._memory.columns_of(block.parameters),
            )
        memory, columns = self._memory, self._columns
        again = (integers(block.steps, "flags") & int(StepFlag.NO_BACKWARD | StepFlag.SKIPPED)) != 0
        own = (block.state >= State.ZERO) & ~again[:, None]
        carried = own & (block.values["carried"] != 0)
        if not (carried & ~memory.guilty[columns]).any():
            memory.num_own[columns] += own.sum(axis=0)
            if memory.carried.any():
                memory.carried[columns[own.any(axis=0)]] = False
        else:
            guilty, since = self._judge(block, own, carried)
            for row in as_list(np.unique(np.argmax(guilty, axis=0)[guilty.any(axis=0)])):
                fresh = np.flatnonzero(guilty[row] & ~memory.guilty[columns])
                memory.guilty[columns[fresh]] = True
                self._accuse(block, row, fresh, since)
        if not carried.any():
            return
        for fault in self._faults:
            if fault.follow(block, carried & memory.guilty[columns]):
                yield self._finding(fault)

    def shortfall(self) -> Message | None:
        steps = int(self._memory.num_own.max(initial=0))
        if steps < self.min_evaluated:
            return say(
                "needs {needed} steps of one optimizer, has {has}",
                needed=self.min_evaluated,
                has=steps,
            )
        return None

    def _judge(
        self, block: RowBatch, own: BoolArray, carried: BoolArray
    ) -> tuple[BoolArray, IntArray]:
        """Return where a parameter is known to be at fault, and since which iteration  # each (B,
        P).
        """
        memory, columns = self._memory, self._columns
        row = np.where(own, np.arange(len(block))[:, None], -1)
        latest = np.maximum.accumulate(row, axis=0)
        # row of its step before, -1: not in this block
        before = np.concatenate([np.full((1, len(columns)), -1), latest[:-1]])
        carried_before = np.where(
            before >= 0,
            np.take_along_axis(carried, np.maximum(before, 0), axis=0),
            memory.carried[columns],
        )
        begins = np.where(
            carried & ~carried_before, integers(block.steps, "iteration")[:, None], -1
        )
        begins[0] = np.maximum(begins[0], memory.since[columns])
        since = np.maximum.accumulate(begins, axis=0)
        num_own = memory.num_own[columns] + np.cumsum(own, axis=0)
        num_carried = memory.num_carried[columns] + np.cumsum(carried, axis=0)
        scattered = (
            carried
            & (num_carried >= self.min_scattered)
            & (num_carried >= self.min_share * num_own)
        )
        begun = carried.any(axis=0) & (memory.first[columns] < 0)
        row_of = np.argmax(carried, axis=0)
        memory.first[columns[begun]] = integers(block.steps, "iteration")[row_of[begun]]
        memory.num_before[columns[begun]] = num_own[row_of[begun], np.flatnonzero(begun)] - 1
        memory.carried[columns] = np.where(
            latest[-1] >= 0,
            np.take_along_axis(carried, np.maximum(latest[-1:], 0), axis=0)[0],
            memory.carried[columns],
        )
        memory.since[columns], memory.num_own[columns], memory.num_carried[columns] = (
            since[-1],
            num_own[-1],
            num_carried[-1],
        )
        # often enough since the very first time: it began there
        is_from_first = num_carried >= self.min_share * (num_own - memory.num_before[columns])
        first = np.minimum(memory.first[columns], integers(block.steps, "iteration")[:, None])
        return (carried & carried_before) | scattered, np.where(is_from_first, first, since)

    def _accuse(self, block: RowBatch, row: int, fresh: IntArray, since: IntArray) -> None:
        """Add parameters that were found at fault in a row to the fault of their optimizer, or
        of the line where it steps.
        """
        iteration = int(integers(block.steps, "iteration")[row])
        for column in as_list(fresh):
            parameter = block.parameters[column]
            owner = -1 if parameter.optimizer is None else parameter.optimizer
            where = site_of(block, EventKind.STEP, iteration, owner)
            fault = next(
                (
                    each
                    for each in self._faults
                    if owner in each.optimizers or (where and where == each.where)
                ),
                None,
            )
            if fault is None:
                fault = _MissingClearing(owner, where, int(since[row, column]), iteration)
                self._faults.append(fault)
            fault.optimizers[owner] = optimizer_name(block, owner)
            fault.names.append(parameter.name)
            if fault.found == iteration:
                fault.first_step = min(fault.first_step, int(since[row, column]))

    def _finding(self, fault: _MissingClearing) -> Finding:
        first, held = fault.names[0], fault.held()
        values: dict[str, str | int | float] = {
            "step": fault.first_step,
            "optimizer": held[0],
            "optimizers": ", ".join(held),
        }
        return self.finding(
            optimizer=fault.optimizer,
            first_step=fault.first_step,
            last_step=fault.last_step,
            parameters=tuple(fault.names),
            evidence=tuple(
                Evidence("carried", first, step, 1.0, 0.0)
                for step in dict.fromkeys((fault.first_step, fault.found))
            ),
            cause=say(
                "since step {step} {optimizer:the} has used gradients that earlier steps had "
                "already used: they are not cleared before each backward, which adds to what is "
                "there",
                **values,
            )
            if len(held) == 1
            else say(
                "since step {step} {optimizers} have used gradients that earlier steps had already "
                "used: they are not cleared before each backward, which adds to what is there",
                **values,
            ),
            advice=say(
                "clear the gradients once per step, before backward: call {optimizer}.zero_grad()",
                **values,
            )
            if len(held) == 1
            else say(
                "clear the gradients once per step, before backward: call zero_grad() of each of "
                "{optimizers}",
                **values,
            ),
            where=fault.where,
            excerpt=f"{_clearing(held)}\nloss.backward()",
        )


@dataclass(slots=True)
class _MissingClearing:
    """One place where clearing is missing."""

    optimizer: int
    where: str
    first_step: int
    found: int  # the iteration in which it was found
    last_step: int = -1
    names: list[str] = field(default_factory=list[str])
    # their names in the script, by index
    optimizers: dict[int, str] = field(default_factory=dict[int, str])

    def held(self) -> list[str]:
        """Return the names of its optimizers, in their order."""
        return list(dict.fromkeys(self.optimizers[each] for each in sorted(self.optimizers)))

    def follow(self, block: RowBatch, carried: BoolArray) -> bool:
        """Move on to the last iteration in which one of its parameters was carried; return whether
        there was one.
        """
        mine = [
            column
            for column, parameter in enumerate(block.parameters)
            if parameter.optimizer in self.optimizers
        ]
        rows = np.flatnonzero(carried[:, mine].any(axis=1))
        if len(rows):
            self.last_step = int(integers(block.steps, "iteration")[rows[-1]])
        return len(rows) > 0


def _clearing(optimizers: Sequence[str]) -> str:
    """Return the calls that clear the gradients of all of these."""
    lists = {re.sub(r"\[\d+\]$", "", each) for each in optimizers}
    if len(optimizers) > 1 and len(lists) == 1:  # items of one list
        return f"for optimizer in {lists.pop()}:\n    optimizer.zero_grad()"
    return "\n".join(f"{each}.zero_grad()" for each in optimizers)


@dataclass(slots=True)
class _ParameterHistory:
    """The history of each parameter, by its name; the arrays grow as parameters are added."""

    positions: dict[str, int] = field(default_factory=dict[str, int])
    carried: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))  # in its last step
    # the iteration in which that began
    since: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    first: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # the very first
    num_before: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # steps before it
    num_own: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # steps
    num_carried: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # steps
    guilty: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))

    def columns_of(self, parameters: tuple[Parameter, ...]) -> IntArray:
        """Return the position of each parameter in these arrays."""
        for parameter in parameters:
            self.positions.setdefault(parameter.name, len(self.positions))
        more = len(self.positions) - len(self.carried)
        self.carried = np.concatenate([self.carried, np.zeros(more, np.bool_)])
        self.guilty = np.concatenate([self.guilty, np.zeros(more, np.bool_)])
        self.since = np.concatenate([self.since, np.full(more, -1)])
        self.first = np.concatenate([self.first, np.full(more, -1)])
        self.num_before = np.concatenate([self.num_before, np.zeros(more, np.int64)])
        self.num_own = np.concatenate([self.num_own, np.zeros(more, np.int64)])
        self.num_carried = np.concatenate([self.num_carried, np.zeros(more, np.int64)])
        return np.array([self.positions[parameter.name] for parameter in parameters], np.int64)
