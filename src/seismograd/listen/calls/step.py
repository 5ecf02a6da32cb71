"""`Optimizer.step`, and that of a `GradScaler` around it, which may leave it out."""

from __future__ import annotations

from typing import Any

import torch

from seismograd.listen.guard import Guard
from seismograd.listen.iteration import Reading, Stepped
from seismograd.listen.lanes import Lane
from seismograd.listen.log import Log
from seismograd.listen.patches.step import is_within_a_step
from seismograd.listen.probe import Probed
from seismograd.listen.reader import Reader
from seismograd.listen.reading import NO_COLUMNS, carried_columns
from seismograd.listen.registry import Registry
from seismograd.listen.turns import Turns
from seismograd.listen.windows import Window
from seismograd.schema import EventFlag, EventKind, StepFlag

# Arithmetic on flags takes a microsecond, on numbers none.
NO_BACKWARD, SKIPPED = int(StepFlag.NO_BACKWARD), int(StepFlag.SKIPPED)
USED, EMPTY = int(EventFlag.USED), int(EventFlag.EMPTY)


class Steps:
    """What an optimizer consumes, and what it makes of its weights."""

    def __init__(self, guard: Guard, log: Log, registry: Registry, turns: Turns, reader: Reader, sampling: bool) -> None:
        self._guard, self._log, self._registry, self._turns, self._reader = guard, log, registry, turns, reader
        self._sampling = sampling

    def step_begins(self, lane: Lane, optimizer: Any, closure: bool) -> None:
        """An optimizer is about to consume its gradients."""
        window = self._registry.window(optimizer)
        if window is None:
            return
        if window.stepping and is_within_a_step():  # a subclass calls the step of its base, and torch announces both
            window.steps_within += 1
            return
        window.steps_within = 0
        window.lane = lane
        if lane.iteration.has_stepped(window.index):
            self._turns.turn(lane)
        fused = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by the scale itself
        if isinstance(fused, torch.Tensor):
            window.grad_scale = window.loss_scale = self._log.scalar(fused)
        window.stepping = True
        flags, applied = StepFlag.NONE, None
        if not closure and lane.loss is None:
            stale, changed = window.clearing.at_step()
            if stale:
                flags = StepFlag.NO_BACKWARD
            elif changed and window.num_backwards:
                flags, window.eager = StepFlag.CHANGED, True
        if window.ready is None and not closure:
            self._reader.read(lane, window)
        elif not closure and (flags is StepFlag.CHANGED or not all(clip.by_norm for clip in window.clips)):
            applied = self._reader.reading(lane, window, sample=False)
        self._step(lane, window, optimizer, flags, applied, closure)
        if self._sampling and self._turns.thinning.extras:
            num_wanted = window.probe.num_wanted(window.num_parameters or len(window.held()))
            if num_wanted:
                self._guard.call("probe", window.probe.step_begins, window.held(), closure, num_wanted)

    def step_ends(self, lane: Lane, optimizer: Any) -> None:
        """The step is done: its window is used up."""
        window = self._registry.known(optimizer)
        if window is None or not window.stepping:
            return
        if window.steps_within:
            window.steps_within -= 1
            return
        if window.ready is None:  # a closure that did not call backward
            self._reader.read(lane, window)
        probed = self._probed(window, optimizer) if window.probe.is_under_way else None
        for step in lane.iteration.steps:
            if step.optimizer == window.index:
                step.probed = probed
                step.reading = window.ready
                step.num_backwards = max(step.num_backwards, window.num_backwards)
        if self._sampling and window.apart.is_of_several:
            compared = self._guard.call("pairs", window.apart.step_ends, self._registry.roster.column, window.loss_scale)
            if compared is not None:
                lane.iteration.compared.append(compared.told_apart(self._log.call_sites.numbered))
        window.step_ended()

    def scaler_step_begins(self, _: Lane, optimizer: Any) -> None:
        """Remember how many steps were made, to see whether this one is left out."""
        window = self._registry.window(optimizer)
        if window is not None:
            window.steps_before_scaler = window.num_steps

    def scaler_step_ends(self, lane: Lane, scaler: Any, optimizer: Any) -> None:
        """Record a step that the scaler left out, with the gradients that caused it."""
        window = self._registry.known(optimizer)
        if window is None or not scaler.is_enabled() or window.num_steps != window.steps_before_scaler:
            return
        if lane.iteration.has_stepped(window.index):
            self._turns.turn(lane)
        self._step(lane, window, optimizer, StepFlag.SKIPPED, None)
        window.restart()

    def _step(
        self,
        lane: Lane,
        window: Window,
        optimizer: torch.optim.Optimizer,
        flags: StepFlag,
        applied: Reading | None,
        closure: bool = False,
    ) -> None:
        groups = optimizer.param_groups
        window.was_stepped = True
        lr = lowest = self._log.scalar(groups[0].get("lr") if groups else None)
        if len(groups) > 1:
            rates = [rate for group in groups if isinstance(rate := group.get("lr"), int | float)]
            lowest = self._log.scalar(min(rates)) if rates else lr
        heard = self._log.heard(lane, EventKind.STEP, window.index, value=lr, limit=lowest, scale=window.grad_scale)
        heard.touched = window.bit
        if getattr(optimizer, "grad_scale", None) is not None:
            heard.flags |= EventFlag.FUSED
        if lane.loss is not None or closure:
            heard.flags |= EventFlag.CLOSURE
        number = int(flags)
        if number & NO_BACKWARD:
            heard.flags |= EMPTY if all(p.grad is None for p in window.held()) else USED
        backwards = window.num_backwards + (lane.loss is not None)
        carried = NO_COLUMNS if number & (NO_BACKWARD | SKIPPED) else carried_columns(window, self._registry.roster)
        step = Stepped(window.index, window.num_steps, lr, backwards, flags, carried, tuple(window.clips), window.ready, applied)
        lane.iteration.steps.append(step)

    def _probed(self, window: Window, optimizer: Any) -> Probed | None:
        """What the step has changed of the weights that were copied before it; on a device the numbers come with the next transfer."""
        left_out = getattr(optimizer, "found_inf", None)  # a fused optimizer is stepped even where the scaler found infinities
        probed = self._guard.call("probe", window.probe.step_ends, self._registry.roster, left_out)
        if probed is not None and probed.waiting:
            self._log.wait_for(scalar for _, _, scalar in probed.waiting)
        return probed
