"""Notice that a loss or a gradient is not finite, find where its first such number arose, and
report that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch

from seismograd.capture.birth.birth import FORWARD, Birth, nonfinite
from seismograd.capture.birth.graph_stage import birth_in_graph
from seismograd.capture.birth.held_calls import HeldCall, HeldCalls
from seismograd.capture.birth.model_replay import Replayed, replay
from seismograd.capture.birth.nonfinite_weight import weight_in_graph
from seismograd.capture.birth.singular_operands import LossOperands
from seismograd.capture.birth.source_line import code_below, line_of_operation
from seismograd.capture.birth.weight_origin import written_by
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration import GradientReading
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import BirthReason, FactKind, Origin
from seismograd.tensors.isolation import without_user_modes

MAX_LOOKED_AT = 6  # non-finite losses, and gradients
MAX_REPLAYS = 6
# what an operation was given shows these by itself; of others the model's result may be the cause
CERTAIN = frozenset(
    {
        BirthReason.ZERO,
        BirthReason.NEGATIVE,
        BirthReason.OUTSIDE,
        BirthReason.EMPTY,
        BirthReason.NO_WEIGHT,
        BirthReason.ONE_SAMPLE,
        BirthReason.TOO_LONG,
        BirthReason.TARGET,
    }
)
# `any` of an array is Python around this
any_nonzero = np.logical_or.reduce
UNTOUCHED: frozenset[CodeType] = frozenset()


class BirthObserver:
    """Looks at the first losses and gradients that are not finite. `replays`: a model may be called
    once more for that. `keeps_batches`: what models were called with is kept for the time of the
    step.
    """

    def __init__(
        self,
        facts: Facts,
        log: EventLog,
        registry: OptimizerRegistry,
        replays: bool,
        keeps_batches: bool = False,
    ) -> None:
        self._facts, self._log, self._registry = facts, log, registry
        self.calls = HeldCalls(any_device=keeps_batches) if replays or keeps_batches else None
        self._replays, self.keeps_batches = replays, keeps_batches
        self.batches: Sequence[HeldCall] = ()  # of the running step
        self.operands = LossOperands()
        self._version = -1  # of the parameter table
        self._num_losses = self._num_gradients = self._num_replays = 0

    def follow_these(self, models: Sequence[torch.nn.Module]) -> None:
        """Hold the calls of models that are known from the start."""
        if self.calls is not None:
            self.calls.follow(models)

    def follow(self) -> None:
        """Hold the calls of the models that are trained."""
        table = self._registry.parameter_table
        if self.calls is not None and self._version != table.version:
            self._version = table.version
            self.calls.follow(model for model, _ in table.models())

    def backward_begins(self, tops: list[Any], holds: bool = True) -> None:
        """Hold what decides whether the derivative of a loss is finite; unless `holds`, hold
        nothing until the next backward, because the budget is used up.
        """
        last, self.batches = -1, ()
        if self.calls is not None:
            if self._version != self._registry.parameter_table.version:
                self.follow()
            self.calls.is_paused = not holds
            for call in self.calls.calls:
                if call.last > last:
                    last = call.last
        if holds:
            self.operands.hold(tops, last)

    def step_begins(
        self, window: OptimizerWindow, held: Sequence[torch.Tensor] | None = None
    ) -> None:
        """Look at the gradients that a step is about to use. `held`: the parameters of the window,
        where the caller has them.
        """
        ready = window.ready
        if (
            ready is not None
            and not ready.is_ordinary
            and ready.arrival is None
            and any_nonzero(ready.values["nonfinite"])  # NaN: it was not counted
        ):
            self._look(window, ready)
        self.operands.losses.clear()
        if self.calls is not None and self.calls.calls:
            if self.keeps_batches:
                self.batches = tuple(self.calls.calls)
            self.calls.drop(window.held() if held is None else held)

    def step_skipped(self, window: OptimizerWindow) -> None:
        """Look at the gradients of a step that a scaler has left out. They may only be too large
        for their scale, so no model is called once more for them.
        """
        ready = window.ready
        is_read = ready is not None and not ready.is_ordinary and ready.arrival is None
        if is_read and self._num_gradients < MAX_LOOKED_AT:
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            calls = [] if self.calls is None else self.calls.calls
            batch = max((call.batch() for call in calls), default=0)
            without = frozenset(_codes_of(calls))
            birth = self._placed(self.operands.birth(batch), frame, without)
            if birth is not None:
                self._num_gradients += 1
                self._report("gradient", birth, window.index)
        self.operands.losses.clear()
        if self.calls is not None:
            self.calls.drop(window.held())

    def _look(self, window: OptimizerWindow, ready: GradientReading) -> None:
        if _is_spoiled(ready):
            losses = window.losses
            is_of_loss = any(not loss.known or not math.isfinite(loss.value) for loss in losses)
            if not is_of_loss and self._num_gradients < MAX_LOOKED_AT:
                self._num_gradients += 1
                self._of_gradient(window)

    def pauses(self, paused: bool) -> None:
        """Hold nothing for a while, in which no step would let go of it, or hold again."""
        if paused:
            self.batches = ()
            self.operands.losses.clear()
        if self.calls is not None:
            self.calls.is_paused = paused
            if paused:
                self.calls.calls = []

    def stop(self) -> None:
        """Leave no trace."""
        self.batches = ()
        if self.calls is not None:
            self.calls.stop()
        self.operands.losses.clear()

    def of_loss(self, top: Any) -> Origin:
        """Report where a non-finite loss came from whose graph ends in this node."""
        if self._num_losses >= MAX_LOOKED_AT:
            return Origin.UNKNOWN
        self._num_losses += 1
        weight = weight_in_graph(top)
        birth = self._of_weight(weight) if weight is not None else self._of_forward(top)
        if birth is None:
            return Origin.LOSS
        self._report("loss", birth)
        return birth.origin

    def _of_forward(self, top: Any) -> Birth | None:
        """Return where a loss became non-finite whose weights are finite: within a model, whose
        call is repeated, or behind it.
        """
        calls = [] if self.calls is None else self.calls.calls
        birth = birth_in_graph(top, max((call.batch() for call in calls), default=0))
        last = max((call.last for call in calls), default=-1)
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        if birth is not None and birth.number > last >= 0 and birth.reason in CERTAIN:
            return self._placed(birth, frame, frozenset(_codes_of(calls)))
        problem = ""
        for call in calls:
            replayed = self._replayed(call, of_gradient=False)
            if replayed.birth is not None:
                return replace(replayed.birth, number=0 if birth is None else birth.number)
            problem = problem or (replayed.problem if replayed.problem != "differs" else "")
        is_behind = birth is not None and birth.number > last >= 0
        without = frozenset(_codes_of(calls)) if is_behind else UNTOUCHED
        return self._placed(birth, frame, without, problem)

    def _of_gradient(self, window: OptimizerWindow) -> None:
        """Report where gradients became non-finite whose loss is finite."""
        birth, problem, batch = None, "", 0
        calls = [] if self.calls is None else self.calls.calls[::-1]
        for call in calls:
            batch = batch or call.batch()
            with without_user_modes():
                spoiled = [g for g in call.gradients.values() if nonfinite(g) is not None]
            if spoiled:
                continue  # by what was done with its result
            replayed = self._replayed(call, of_gradient=True)
            if replayed.birth is not None:
                birth = replayed.birth
                break
            problem = problem or replayed.problem
        if birth is None:
            birth = self.operands.birth(batch)
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            birth = self._placed(birth, frame, frozenset(_codes_of(calls)), problem)
        if birth is not None:
            self._report("gradient", birth, window.index)

    def _replayed(self, call: HeldCall, *, of_gradient: bool) -> Replayed:
        if self.calls is None or not self._replays or self._num_replays >= MAX_REPLAYS:
            return Replayed()
        self._num_replays += 1
        was_paused, self.calls.is_paused = self.calls.is_paused, True
        try:
            return replay(call, self._log.call_sites, of_gradient)
        finally:
            self.calls.is_paused = was_paused

    def _of_weight(self, weight: torch.Tensor) -> Birth:
        table = self._registry.parameter_table
        column = table.column(weight) if weight in table else -1
        parameter = table.parameters[column] if column >= 0 else None
        index = None if parameter is None else parameter.optimizer
        window = next((w for w in self._registry if w.index == index), None)
        with without_user_modes():
            reason = written_by(weight, self._registry.optimizer_of(weight), window)
            bad = ~torch.isfinite(weight.detach())
        return Birth(
            "",
            reason,
            FORWARD,
            operand="" if parameter is None else parameter.name,
            shape=tuple(weight.shape),
            dtype=str(weight.dtype).removeprefix("torch."),
            num=int(bad.sum()),
            numel=weight.numel(),
        )

    def _placed(
        self,
        birth: Birth | None,
        frame: FrameType,
        without: frozenset[CodeType],
        problem: str = "",
    ) -> Birth | None:
        """Add the line that the source shows; what the functions `without` call is not searched."""
        if birth is None:
            return None
        birth = replace(birth, problem=problem)
        if not birth.operation:
            return birth
        by_zero = birth.operation == "/" and birth.reason is BirthReason.ZERO
        line = line_of_operation(birth.operation, frame, without, birth.made_by, by_zero=by_zero)
        if line is None:
            return birth
        site = self._log.call_sites.at(line.file, line.number, line.function)
        return replace(birth, site=site, text=line.text, logits=line.logits)

    def _report(self, of: str, birth: Birth, optimizer: int = -1) -> None:
        named = birth.operand if birth.origin is Origin.WEIGHT else ""
        self._facts.report_values(
            FactKind.BIRTH,
            {"of": of, **birth.values()},
            birth.site,
            (named,) if named else (),
            optimizer,
        )


def _codes_of(calls: list[HeldCall]) -> list[CodeType]:
    """Return the code of the models that were called."""
    models = [model for call in calls if (model := call.model()) is not None]
    return [code for model in models for code in code_below(model)]


def _is_spoiled(reading: GradientReading) -> bool:
    """Return whether a gradient has numbers that are not finite; NaN: it was not counted."""
    return bool(np.nansum(reading.values["nonfinite"]) > 0)
