"""`Optimizer.step`, and `GradScaler.step` around it, which may skip it: torch's own global hooks,
which see every optimizer class, whoever wrote it, and what a call means.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

# Arithmetic on flags takes a microsecond, on numbers none.
from torch._compile import _disable_dynamo  # pyright: ignore  # torch.compiler.disable would load dynamo at once
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.step_frames import is_within_a_step
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration import GradientReading, OptimizerStep
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import attribute, groups_of, setting
from seismograd.capture.probes.update_probe import ProbedUpdates
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.rows.gradient_reading import NO_COLUMNS, carried_columns
from seismograd.i18n import say
from seismograd.schema import EventFlag, EventKind, FactKind, Note, StepFlag

NO_BACKWARD, SKIPPED = int(StepFlag.NO_BACKWARD), int(StepFlag.SKIPPED)
USED, EMPTY, CLOSURE = int(EventFlag.USED), int(EventFlag.EMPTY), int(EventFlag.CLOSURE)


class StepHooks:
    """Handles steps: what an optimizer consumes, and how it changes its weights."""

    def __init__(
        self,
        guard: ErrorGuard,
        log: EventLog,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        reader: GradientReader,
        tell: Callable[[Note], None],
        sampling: bool,
        facts: Facts,
    ) -> None:
        self._guard, self._log, self._registry, self._iteration_queue, self._reader = (
            guard,
            log,
            registry,
            iteration_queue,
            reader,
        )
        self._tell, self._sampling, self._facts = tell, sampling, facts
        self._num_reduced_late = 0
        self._said_unheard = False

    def step_begins(
        self, thread_state: ThreadState, optimizer: Any, closure: bool, compiled: bool
    ) -> None:
        """Handle an optimizer about to consume its gradients. With a closure it may compute them
        first; the end of the step shows whether it did.
        """
        window = self._registry.known(optimizer)
        if window is None:
            window = self._registry.window(optimizer)
            if window is None:
                return
            _claim(thread_state, window)
        # a subclass calls its base's step, and torch announces both
        if window.stepping and is_within_a_step():
            window.steps_within += 1
            return
        if window.stepping:
            window.step_raised()
        window.steps_within = 0
        window.thread_state = thread_state
        if thread_state.iteration.has_stepped(window.index):
            self._iteration_queue.end_iteration(thread_state)
        fused = attribute(optimizer, "grad_scale")  # a fused optimizer divides by the scale itself
        if isinstance(fused, torch.Tensor):
            window.grad_scale = window.loss_scale = self._log.scalar(fused)
        reduced = self._reader.take_reduction(window)
        if reduced and window.clips and not window.stepping:
            self._reduced_late(thread_state, window)
        window.stepping, window.closure = True, closure
        flags, applied, changed = StepFlag.NONE, None, False
        if thread_state.loss is None:
            stale, changed = window.clearing.at_step()
            if stale:
                flags = StepFlag.NO_BACKWARD
            elif reduced:
                changed = False
            elif changed and window.num_heard:
                flags, window.eager = StepFlag.CHANGED, True
            elif (
                changed
                and not closure
                and (compiled or _has_compiled())
                and _is_first_heard(thread_state)
            ):
                flags = StepFlag.UNHEARD
                self._say_unheard()
        if window.ready is None:
            if not closure or window.num_backwards or (changed and flags is StepFlag.NONE):
                self._reader.read(thread_state, window)
        elif flags is StepFlag.CHANGED or reduced or not all(clip.by_norm for clip in window.clips):
            applied = self._reader.reading(thread_state, window, sample=False)
        self._step(thread_state, window, optimizer, flags, applied)
        if self._sampling and self._iteration_queue.thinning.extras:
            num_requested = window.probe.num_requested(window.num_parameters or len(window.held()))
            if num_requested:
                self._guard.call(
                    "probe",
                    window.probe.step_begins,
                    window.held(),
                    closure,
                    num_requested,
                    optimizer,
                )

    def step_ends(self, thread_state: ThreadState, optimizer: Any) -> None:
        """Handle the end of a step: its window is used up."""
        window = self._registry.known(optimizer)
        if window is None or not window.stepping:
            return
        if window.steps_within:
            window.steps_within -= 1
            return
        # the closure has called no backward that we intercepted
        if window.ready is None:
            self._reader.read(thread_state, window)
        probed = self._probed(window, optimizer) if window.probe.is_under_way else None
        if window.step is not None:
            self._complete(window, window.step, probed)
        if self._sampling and window.per_loss.is_of_several:
            compared = self._guard.call(
                "pairs",
                window.per_loss.step_ends,
                self._registry.parameter_table.column,
                window.loss_scale,
            )
            if compared is not None:
                thread_state.iteration.compared.append(
                    compared.separate(self._log.call_sites.numbered)
                )
        window.step_ended()

    def broken_off(self, thread_state: ThreadState, optimizer: Any, made: bool) -> None:
        """Note that an exception of the program's arrived while the begin of a step was handled,
        which then is not made, or its end.
        """
        window = self._registry.known(optimizer)
        if window is None or not window.stepping:
            return
        if made:
            window.step_ended()
        else:
            window.step_left_out()
            iteration = thread_state.iteration
            iteration.steps = [
                s
                for s in iteration.steps
                if s.optimizer != window.index or s.number != window.num_steps
            ]

    def scaler_step_begins(self, _: ThreadState, optimizer: Any) -> None:
        """Remember how many steps were made, to see whether this one is skipped."""
        window = self._registry.window(optimizer)
        if window is not None:
            window.steps_before_scaler = window.num_steps

    def scaler_step_ends(self, thread_state: ThreadState, scaler: Any, optimizer: Any) -> None:
        """Record a step that the scaler skipped, with the gradients that caused it."""
        window = self._registry.known(optimizer)
        if (
            window is None
            or not scaler.is_enabled()
            or window.num_steps != window.steps_before_scaler
        ):
            return
        if thread_state.iteration.has_stepped(window.index):
            self._iteration_queue.end_iteration(thread_state)
        self._step(thread_state, window, optimizer, StepFlag.SKIPPED, None)
        window.were_used()
        window.restart()

    def _step(
        self,
        thread_state: ThreadState,
        window: OptimizerWindow,
        optimizer: torch.optim.Optimizer,
        flags: StepFlag,
        applied: GradientReading | None,
    ) -> None:
        groups = groups_of(optimizer)
        window.was_stepped = True
        lr = lowest = self._log.scalar(setting(groups[0], "lr") if groups else None)
        if len(groups) > 1:
            rates = [
                rate for group in groups if isinstance(rate := setting(group, "lr"), int | float)
            ]
            lowest = self._log.scalar(min(rates)) if rates else lr
        captured = self._log.record(
            thread_state,
            EventKind.STEP,
            window.index,
            value=lr,
            limit=lowest,
            scale=window.grad_scale,
        )
        captured.touched = window.bit
        if attribute(optimizer, "grad_scale") is not None:
            captured.flags |= EventFlag.FUSED
        if thread_state.loss is not None:
            captured.flags |= EventFlag.CLOSURE
        number = int(flags)
        if number & NO_BACKWARD:
            captured.flags |= EMPTY if all(p.grad is None for p in window.held()) else USED
        backwards = window.num_backwards + (thread_state.loss is not None)
        carried = (
            NO_COLUMNS
            if number & (NO_BACKWARD | SKIPPED)
            else carried_columns(window, self._registry.parameter_table)
        )
        step = OptimizerStep(
            window.index,
            window.num_steps,
            lr,
            backwards,
            flags,
            carried,
            tuple(window.clips),
            window.ready,
            applied,
        )
        thread_state.iteration.steps.append(step)
        window.step, window.step_heard = step, captured

    def _complete(
        self, window: OptimizerWindow, step: OptimizerStep, probed: ProbedUpdates | None
    ) -> None:
        """Add what only the end of the step shows: what its closure computed, and what happened to
        it within the step.
        """
        step.probed, step.reading, step.clips = probed, window.ready, tuple(window.clips)
        if window.evaluated:
            step.num_backwards = window.num_backwards
        else:
            step.num_backwards = max(step.num_backwards, window.num_backwards)
        step.applied = window.applied or step.applied
        if window.carried is not None:
            step.carried = window.carried
        captured = window.step_heard
        made_unheard = (
            window.closure
            and not window.evaluated
            and int(step.flags) & NO_BACKWARD
            and window.clearing.at_step()[1]
        )
        # the closure set the gradients without a backward, as by `torch.autograd.grad`
        if made_unheard and captured is not None:
            step.flags = StepFlag.NONE
            captured.flags = captured.flags & ~(USED | EMPTY) | CLOSURE

    def _reduced_late(self, thread_state: ThreadState, window: OptimizerWindow) -> None:
        """Report gradients that were reduced after they were clipped. What the clip saw is not what
        the processes have computed together, which is read now.
        """
        clip = window.clips[0]
        self._num_reduced_late += 1
        if is_looked_at(self._num_reduced_late):
            clips = [e for e in thread_state.iteration.events if e.kind == EventKind.CLIP]
            self._facts.tell(
                FactKind.REDUCED_AFTER_CLIP,
                site=clips[-1].site if clips else -1,
                optimizer=window.index,
                norm=clip.norm.read(),
                limit=clip.limit.read(),
                times=self._num_reduced_late,
            )
        window.ready, window.clips = None, []

    def _say_unheard(self) -> None:
        """Report once that backwards are not intercepted."""
        if not self._said_unheard:
            self._said_unheard = True
            message = say(
                "backward is compiled, so neither backward nor a clip compiled with it can be "
                "recorded: losses are unknown, and the recorded gradients are those that step was "
                "given, after any clip"
            )
            self._tell(Note("unheard", self._iteration_queue.num_rows, message))

    def _probed(self, window: OptimizerWindow, optimizer: Any) -> ProbedUpdates | None:
        """Return how the step changed the weights copied before it; on a device the numbers arrive
        with the next transfer.
        """
        # a fused optimizer is stepped even where the scaler found infinities
        left_out = attribute(optimizer, "found_inf")
        probed = self._guard.call(
            "probe", window.probe.step_ends, self._registry.parameter_table, left_out, optimizer
        )
        if probed is not None and probed.waiting:
            self._log.wait_for(scalar for _, _, scalar in probed.waiting)
        return probed


def _has_compiled() -> bool:
    """Return whether `torch.compile` has compiled anything in this process, as far as its counters
    show.
    """
    utils = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utils, "counters", None)
    return bool(counters and counters["frames"]["ok"])


def _claim(thread_state: ThreadState, window: OptimizerWindow) -> None:
    """Assign earlier backwards that reached no other optimizer to one that is first seen when it
    steps.
    """
    if any(p.grad is not None for p in window.held()):
        for event in thread_state.iteration.events:
            if event.kind == EventKind.BACKWARD and event.unclaimed:
                event.touched |= window.bit
                window.backward_ended(event.value, event.scale)
                window.clearing.added()


def _is_first_heard(thread_state: ThreadState) -> bool:
    """Return whether every backward so far can be attributed to an optimizer known at the time."""
    return not any(
        event.kind == EventKind.BACKWARD and not event.touched
        for event in thread_state.iteration.events
    )


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None


def install(hub: EventHub) -> Undo:
    """Report to the hub when a step begins and ends. The hooks return None: anything else would
    replace the arguments.

    A compiled step runs them as they are: `torch.compile` must not try to compile them.
    """

    def step_begins(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hub.step_begins(optimizer, _closure(args, kwargs), False)

    def step_begins_compiled(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hub.step_begins(optimizer, _closure(args, kwargs), True)

    def step_ends(optimizer: Any) -> None:
        hub.step_ends(optimizer)

    # Each call through these costs ten microseconds, so only a step that is being compiled uses
    # them.
    begins_uncompiled, ends_uncompiled = (
        _disable_dynamo(step_begins_compiled),
        _disable_dynamo(step_ends),
    )

    def before(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            begins_uncompiled(optimizer, args, kwargs)
        else:
            step_begins(optimizer, args, kwargs)

    def after(optimizer: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            ends_uncompiled(optimizer)
        else:
            step_ends(optimizer)

    handles = (register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after))

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo
