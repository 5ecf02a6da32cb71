"""`Optimizer.step`, and that of a `GradScaler` around it, which may leave it out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from seismograd.i18n import say
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
from seismograd.schema import EventFlag, EventKind, Note, StepFlag

# Arithmetic on flags takes a microsecond, on numbers none.
NO_BACKWARD, SKIPPED = int(StepFlag.NO_BACKWARD), int(StepFlag.SKIPPED)
USED, EMPTY, CLOSURE = int(EventFlag.USED), int(EventFlag.EMPTY), int(EventFlag.CLOSURE)


class Steps:
    """What an optimizer consumes, and what it makes of its weights."""

    def __init__(
        self, guard: Guard, log: Log, registry: Registry, turns: Turns, reader: Reader, tell: Callable[[Note], None], sampling: bool
    ) -> None:
        self._guard, self._log, self._registry, self._turns, self._reader = guard, log, registry, turns, reader
        self._tell, self._sampling = tell, sampling
        self._said_unheard = False

    def step_begins(self, lane: Lane, optimizer: Any, closure: bool, compiled: bool) -> None:
        """An optimizer is about to consume its gradients. Given a closure it may make them first; whether it does will be seen."""
        window = self._registry.known(optimizer)
        if window is None:
            window = self._registry.window(optimizer)
            if window is None:
                return
            _claim(lane, window)
        if window.stepping and is_within_a_step():  # a subclass calls the step of its base, and torch announces both
            window.steps_within += 1
            return
        if window.stepping:
            window.step_raised()
        window.steps_within = 0
        window.lane = lane
        if lane.iteration.has_stepped(window.index):
            self._turns.turn(lane)
        fused = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by the scale itself
        if isinstance(fused, torch.Tensor):
            window.grad_scale = window.loss_scale = self._log.scalar(fused)
        window.stepping, window.closure = True, closure
        flags, applied, changed = StepFlag.NONE, None, False
        if lane.loss is None:
            stale, changed = window.clearing.at_step()
            if stale:
                flags = StepFlag.NO_BACKWARD
            elif changed and window.num_heard:
                flags, window.eager = StepFlag.CHANGED, True
            elif changed and not closure and (compiled or _has_compiled()) and _is_first_heard(lane):
                flags = StepFlag.UNHEARD
                self._say_unheard()
        if window.ready is None:
            if not closure or window.num_backwards or (changed and flags is StepFlag.NONE):
                self._reader.read(lane, window)
        elif flags is StepFlag.CHANGED or not all(clip.by_norm for clip in window.clips):
            applied = self._reader.reading(lane, window, sample=False)
        self._step(lane, window, optimizer, flags, applied)
        if self._sampling and self._turns.thinning.extras:
            num_wanted = window.probe.num_wanted(window.num_parameters or len(window.held()))
            if num_wanted:
                self._guard.call("probe", window.probe.step_begins, window.held(), closure, num_wanted, optimizer)

    def step_ends(self, lane: Lane, optimizer: Any) -> None:
        """The step is done: its window is used up."""
        window = self._registry.known(optimizer)
        if window is None or not window.stepping:
            return
        if window.steps_within:
            window.steps_within -= 1
            return
        if window.ready is None:  # there was a closure, and it has called no backward that was heard
            self._reader.read(lane, window)
        probed = self._probed(window, optimizer) if window.probe.is_under_way else None
        if window.step is not None:
            self._complete(window, window.step, probed)
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
        window.were_used()
        window.restart()

    def _step(
        self,
        lane: Lane,
        window: Window,
        optimizer: torch.optim.Optimizer,
        flags: StepFlag,
        applied: Reading | None,
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
        if lane.loss is not None:
            heard.flags |= EventFlag.CLOSURE
        number = int(flags)
        if number & NO_BACKWARD:
            heard.flags |= EMPTY if all(p.grad is None for p in window.held()) else USED
        backwards = window.num_backwards + (lane.loss is not None)
        carried = NO_COLUMNS if number & (NO_BACKWARD | SKIPPED) else carried_columns(window, self._registry.roster)
        step = Stepped(window.index, window.num_steps, lr, backwards, flags, carried, tuple(window.clips), window.ready, applied)
        lane.iteration.steps.append(step)
        window.step, window.step_heard = step, heard

    def _complete(self, window: Window, step: Stepped, probed: Probed | None) -> None:
        """Add what only the end of the step shows: what its closure has made, and what was done to it within the step."""
        step.probed, step.reading, step.clips = probed, window.ready, tuple(window.clips)
        if window.evaluated:
            step.num_backwards = window.num_backwards
        else:
            step.num_backwards = max(step.num_backwards, window.num_backwards)
        step.applied = window.applied or step.applied
        if window.carried is not None:
            step.carried = window.carried
        heard = window.step_heard
        made_unheard = window.closure and not window.evaluated and int(step.flags) & NO_BACKWARD and window.clearing.at_step()[1]
        if made_unheard and heard is not None:  # the closure has set the gradients without a backward, as by `torch.autograd.grad`
            step.flags = StepFlag.NONE
            heard.flags = heard.flags & ~(USED | EMPTY) | CLOSURE

    def _say_unheard(self) -> None:
        """Once, that backwards are not heard."""
        if not self._said_unheard:
            self._said_unheard = True
            message = say(
                "backward is compiled: neither it nor a clip that is compiled with it can be heard, so losses are not known, and what is "
                "called the ready gradient is what the step was given, after any clip"
            )
            self._tell(Note("unheard", self._turns.num_rows, message))

    def _probed(self, window: Window, optimizer: Any) -> Probed | None:
        """What the step has changed of the weights that were copied before it; on a device the numbers come with the next transfer."""
        left_out = getattr(optimizer, "found_inf", None)  # a fused optimizer is stepped even where the scaler found infinities
        probed = self._guard.call("probe", window.probe.step_ends, self._registry.roster, left_out, optimizer)
        if probed is not None and probed.waiting:
            self._log.wait_for(scalar for _, _, scalar in probed.waiting)
        return probed


def _has_compiled() -> bool:
    """Whether `torch.compile` has compiled anything in this process, as far as it counts that."""
    utils = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utils, "counters", None)
    return bool(counters and counters["frames"]["ok"])


def _claim(lane: Lane, window: Window) -> None:
    """Of an optimizer that is heard of for the first time, when it steps: the backwards before that reached no other one are its own."""
    if any(p.grad is not None for p in window.held()):
        for event in lane.iteration.events:
            if event.kind == EventKind.BACKWARD and event.unclaimed:
                event.touched |= window.bit
                window.backward_ended(event.value, event.scale)
                window.clearing.added()


def _is_first_heard(lane: Lane) -> bool:
    """Whether no backward was heard that may have been of an optimizer that was not known then."""
    return not any(event.kind == EventKind.BACKWARD and not event.touched for event in lane.iteration.events)
