"""SG301 missing-zero-grad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    flagged,
    integers,
    iteration_at,
    site_of,
)
from seismograd.analysis.parameter_index import ParameterHistory
from seismograd.analysis.script_names import holder_of, in_script, optimizer_name, own_text
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark
from seismograd.rules.sg301.missing_clearing import MissingClearing
from seismograd.schema import (
    EventFlag,
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
    IntArray,
    Parameter,
    State,
    StepFlag,
)

# of a parameter, none of whose steps used a gradient again
CLEARED = np.array(
    [(False, -1, -1, 0, 0, 0, False)],
    {
        # whether its last step did, since when, and when that was for the very first time; its
        # steps before that, all, and those that did; whether it is at fault
        "names": ("carried", "since", "first", "num_before", "num_own", "num_carried", "guilty"),
        "formats": ("?", "i8", "i8", "i8", "i8", "i8", "?"),
    },
)


@final
@dataclass
class MissingZeroGrad(Rule):
    """Gradients are never cleared, so each step reuses those of earlier steps.

    What it finds
        Training loops without `zero_grad`, or with `zero_grad` at the wrong time or on the wrong
        optimizer. `backward` adds to `.grad`; it does not replace it. Also workers that hand the
        gradients of their copy of the network to the optimizer of the shared one, as A3C does:
        `optimizer.zero_grad()` lets go of them, and the copy keeps them.

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
        closure several times, as LBFGS does, a single step suffices in which a later call finds the
        gradients of an earlier one, computed with other weights.

    False alarms
        A program that deliberately keeps part of the old gradient as its own form of momentum, or
        an optimizer that adds up the gradients of several points within its step.

    What to try
        - Call `optimizer.zero_grad()` once per step, before `backward` (or right after `step`).
        - With gradient accumulation, clear at the end of each accumulation window, where `step` is
          called; not in every iteration, and not at the end of an epoch.
        - With LBFGS, call `optimizer.zero_grad()` first of all within the closure.
        - Where a copy of the network hands its gradients over, clear those of the copy.
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

    _parameters: tuple[Parameter, ...] = memory(tuple[Parameter, ...])
    _rows: IntArray = memory(lambda: np.zeros(0, np.int64))  # of these in the history
    _history: ParameterHistory = memory(lambda: ParameterHistory(CLEARED))
    _faults: list[MissingClearing] = memory(list[MissingClearing])
    _lenders: dict[int, str] = memory(dict[int, str])  # by their optimizer

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        if block.parameters is not self._parameters:
            self._parameters, self._rows = block.parameters, self._history.rows(block.parameters)
        history, columns = self._history.records, self._rows
        own = (block.state >= State.ZERO) & ~flagged(
            block.steps, StepFlag.NO_BACKWARD | StepFlag.SKIPPED
        )[:, None]
        carried = own & (block.values["carried"] != 0)
        kept = carried & _is_kept(block)
        if not (carried & ~history["guilty"][columns]).any():
            history["num_own"][columns] += own.sum(axis=0)
            history["carried"][columns[own.any(axis=0)]] = False
        else:
            guilty, since = self._judge(block, own, carried, kept)
            for row in as_list(np.unique(np.argmax(guilty, axis=0)[guilty.any(axis=0)])):
                fresh = np.flatnonzero(guilty[row] & ~history["guilty"][columns])
                history["guilty"][columns[fresh]] = True
                self._accuse(block, row, fresh, since[row], bool(kept[row, fresh].any()))
        for fault in self._faults:
            if fault.follow(block, carried & history["guilty"][columns]):
                yield self._finding(fault)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.HANDED_GRADIENTS:
            model = fact.text("model") or in_script(holder_of(fact.parameters), "")
            self._lenders.setdefault(fact.optimizer, model or "model")
        return ()

    def shortfall(self) -> Message | None:
        steps = int(self._history.records["num_own"].max(initial=0))
        return too_few(
            mark("needs {needed} steps of one optimizer, has {has}"), steps, self.min_evaluated
        )

    def _judge(
        self, block: SharedBlock, own: BoolArray, carried: BoolArray, kept: BoolArray
    ) -> tuple[BoolArray, IntArray]:
        """Return where a parameter is known to be at fault, and since which iteration  # each (B,
        P).
        """
        history, iterations = self._history.records, integers(block.steps, "iteration")[:, None]
        past = history[self._rows]
        latest = np.maximum.accumulate(
            np.where(own, np.arange(len(block))[:, None], -1), axis=0
        )  # its last step so far, -1: not in this block
        before = np.concatenate([np.full((1, len(past)), -1), latest[:-1]])
        carried_before = _at(carried, before, past["carried"])
        begins = np.where(carried & ~carried_before, iterations, -1)
        begins[0] = np.maximum(begins[0], past["since"])
        since = np.maximum.accumulate(begins, axis=0)
        num_own = past["num_own"] + np.cumsum(own, axis=0)
        num_carried = past["num_carried"] + np.cumsum(carried, axis=0)
        is_often = num_carried >= self.min_share * num_own
        scattered = carried & (num_carried >= self.min_scattered) & is_often
        begun = np.flatnonzero(carried.any(axis=0) & (past["first"] < 0))
        row_of = np.argmax(carried, axis=0)[begun]
        past["first"][begun] = iterations[row_of, 0]
        past["num_before"][begun] = num_own[row_of, begun] - 1
        past["carried"] = _at(carried, latest[-1:], past["carried"])[0]
        past["since"], past["num_own"], past["num_carried"] = (
            since[-1],
            num_own[-1],
            num_carried[-1],
        )
        history[self._rows] = past
        # often enough since the very first time: it began there
        is_from_first = num_carried >= self.min_share * (num_own - past["num_before"])
        first = np.minimum(past["first"], iterations)
        return (carried & carried_before) | scattered | kept, np.where(is_from_first, first, since)

    def _accuse(
        self, block: SharedBlock, row: int, fresh: IntArray, since: IntArray, is_kept: bool
    ) -> None:
        """Add parameters that were found at fault in a row to the fault of their optimizer, or
        of the line where it steps; `is_kept`: of the line where its closure calls backward.
        """
        iteration = iteration_at(block, row)
        for column in as_list(fresh):
            parameter = block.parameters[column]
            owner = -1 if parameter.optimizer is None else parameter.optimizer
            where = (
                site_of(block, EventKind.BACKWARD, iteration)
                if is_kept
                else site_of(block, EventKind.STEP, iteration, owner)
            )
            fault = next((each for each in self._faults if each.is_of(owner, where)), None)
            if fault is None:
                fault = MissingClearing(
                    owner,
                    where,
                    int(since[column]),
                    iteration,
                    is_kept,
                    stepped=_text(block, EventKind.STEP, iteration, owner),
                    backward=_text(block, EventKind.BACKWARD, iteration),
                    lent_by=self._lenders.get(owner, ""),
                )
                self._faults.append(fault)
            fault.optimizers[owner] = optimizer_name(block, owner)
            fault.names.append(parameter.name)
            if fault.found == iteration:
                fault.first_step = min(fault.first_step, int(since[column]))

    def _finding(self, fault: MissingClearing) -> Finding:
        return self.finding(
            *fault.explanation(),
            optimizer=fault.optimizer,
            first_step=fault.first_step,
            last_step=fault.last_step,
            parameters=tuple(fault.names),
            evidence=tuple(
                Evidence("carried", fault.names[0], step, 1.0, 0.0)
                for step in dict.fromkeys((fault.first_step, fault.found))
            ),
            where=fault.where,
        )


def _is_kept(block: SharedBlock) -> BoolArray:
    """Return where a step evaluated the loss again without clearing the gradients that it had
    computed with other weights  # (B, P).
    """
    kept = np.zeros((len(block), len(block.parameters)), np.bool_)
    again = np.flatnonzero(flagged(block.events, EventFlag.KEPT))
    if len(again):
        owners = [-1 if each.optimizer is None else each.optimizer for each in block.parameters]
        rows = np.searchsorted(
            integers(block.steps, "iteration"), integers(block.events, "iteration")[again]
        )
        for row, touched in zip(
            as_list(rows), block.events["touched"][again].tolist(), strict=True
        ):
            kept[row] |= [each >= 0 and bool(touched >> each & 1) for each in owners]
    return kept


def _text(block: SharedBlock, kind: EventKind, iteration: int, optimizer: int = -1) -> str:
    """Return the last call of a kind in an iteration, of an optimizer where one is given, as the
    script writes it; empty where it does not show it.
    """
    events = block.events
    is_one = (events["kind"] == kind) & (events["iteration"] == iteration)
    if optimizer >= 0:
        is_one &= events["optimizer"] == optimizer
    sites = integers(events, "site")[is_one]
    name = "backward()" if kind == EventKind.BACKWARD else "step()"
    text = own_text(block, int(sites[-1]), name) if len(sites) else name
    return "" if text == name else text


def _at(values: BoolArray, rows: IntArray, otherwise: BoolArray) -> BoolArray:
    """Return the values in these rows of each column, and something else for a row of -1."""
    there = np.take_along_axis(values, np.maximum(rows, 0), axis=0)
    return np.where(rows >= 0, there, otherwise)
