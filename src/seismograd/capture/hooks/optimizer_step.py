"""What a call of `Optimizer.step` means (`capture.hooks.step_calls` tells of it)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.hooks.compiled_backwards import CompiledBackwards
from seismograd.capture.hooks.step_frames import is_within_a_step
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.left_out_step import end_left_out
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.step_record import complete_step, record_step
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import attribute
from seismograd.capture.probes.assigned_gradients import AssignedGradients
from seismograd.capture.probes.gradients_of_others import GradientsOfOthers
from seismograd.capture.probes.late_reductions import LateReductions
from seismograd.capture.probes.optimizer_state import EVERY, FIRST, OptimizerStateProbe
from seismograd.capture.probes.probed_updates import ProbedUpdates
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.schema import EventKind, Note, StepFlag


class StepHooks:
    """Handles steps: what an optimizer consumes, and how it changes its weights."""

    def __init__(
        self,
        guard: ErrorGuard,
        log: EventLog,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        reader: GradientReader,
        note: Callable[[Note], None],
        sampling: bool,
        births: BirthObserver,
        late_reductions: LateReductions,
        handed: GradientsOfOthers,
        assigned: AssignedGradients,
        states: OptimizerStateProbe,
        spent: MeasuringTime,
    ) -> None:
        self._guard, self._log, self._registry, self._iteration_queue, self._reader = (
            guard,
            log,
            registry,
            iteration_queue,
            reader,
        )
        self._sampling, self._births, self._late_reductions = sampling, births, late_reductions
        self._handed, self._states, self._spent = handed, states, spent
        self._note, self._assigned = note, assigned
        self._compiled = CompiledBackwards(note, lambda: iteration_queue.num_rows)

    def step_begins(
        self, thread_state: ThreadState, optimizer: Any, closure: bool, compiled: bool
    ) -> OptimizerWindow | None:
        """Handle an optimizer about to consume its gradients, and return its window. With a closure
        it may compute them first; the end of the step shows whether it did.
        """
        window = self._registry.known(optimizer)
        if window is None:
            window = self._registry.window(optimizer)
            if window is None:
                return None
            _claim(thread_state, window, self._registry.windows)
        # a subclass calls its base's step, and torch announces both
        if window.stepping and is_within_a_step():
            window.steps_within += 1
            return window
        if window.stepping:
            window.step_raised()
        window.steps_within = 0
        window.thread_state = thread_state
        iteration = thread_state.iteration
        if iteration.steps and iteration.has_stepped(window.index):
            self._iteration_queue.end_iteration(thread_state)
        # a fused optimizer divides by the scale itself
        own: dict[str, object] = optimizer.__dict__
        fused = own.get("grad_scale")
        if isinstance(fused, torch.Tensor):
            window.grad_scale = window.loss_scale = self._log.scalar(fused)
        reduced = self._reader.take_reduction(window)
        if reduced and window.clips and not window.stepping:
            self._late_reductions.report(thread_state, window)
            # what the clip saw is not what the processes have computed together
            window.ready, window.clips = None, []
        window.stepping, window.closure = True, closure
        flags, changed = self._origin(thread_state, window, closure, compiled, reduced)
        applied = None
        if window.ready is None:
            if not closure or window.num_backwards or (changed and flags is StepFlag.NONE):
                self._reader.read(thread_state, window)
        elif (
            flags is StepFlag.CHANGED
            or reduced
            or (window.clips and not all(clip.by_norm for clip in window.clips))
        ):
            applied = self._reader.applied(thread_state, window)
        if window.partition is not None:
            problem = window.partition.take_problem()
            if problem is not None:
                self._note(Note("ranks", self._iteration_queue.num_rows, problem))
        self._guard.call("birth", self._births.step_begins, window)
        table = self._registry.parameter_table
        if changed and not window.num_heard and flags is StepFlag.NONE:
            self._guard.call("handed", self._handed.step_begins, window)
        if flags is StepFlag.CHANGED and window.num_heard > window.num_backwards:
            self._guard.call("assigned", self._assigned.step_begins, thread_state, window)
        record_step(self._log, table, thread_state, window, optimizer, flags, applied)
        if self._sampling and self._iteration_queue.thinning.extras:
            began_s = perf_counter()
            if window.num_steps % EVERY == FIRST and window.ready is not None:
                self.look_at_state(window, optimizer)
            is_unread = window.ready is not None and window.ready.is_unread
            num_requested = (
                0
                if is_unread
                else window.probe.num_requested(window.num_parameters or len(window.held()))
            )
            if num_requested:
                self._guard.call(
                    "probe",
                    window.probe.step_begins,
                    window.held(),
                    closure,
                    num_requested,
                    optimizer,
                )
            if window.num_steps:
                self._spent.probes_s += perf_counter() - began_s
        return window

    def look_at_state(self, window: OptimizerWindow, optimizer: Any) -> None:
        """Look at what an optimizer remembers as its step begins."""
        self._guard.call("optimizer state", self._states.look, window, optimizer, False)

    def _origin(
        self,
        thread_state: ThreadState,
        window: OptimizerWindow,
        closure: bool,
        compiled: bool,
        reduced: bool,
    ) -> tuple[StepFlag, bool]:
        """Return the flag of a step that begins, by where its gradients come from, and whether a
        call that we did not intercept has changed one: none has where they were just `reduced`.
        """
        if thread_state.loss is not None:  # within a backward, which has not ended
            return StepFlag.NONE, False
        stale, changed = window.clearing.at_step()
        if stale:
            return StepFlag.NO_BACKWARD, changed
        if reduced:
            return StepFlag.NONE, False
        if changed and window.num_heard:
            window.eager = True
            return StepFlag.CHANGED, True
        if changed and not closure and self._compiled.explain(thread_state, compiled):
            return StepFlag.UNHEARD, True
        return StepFlag.NONE, changed

    def step_ends(self, thread_state: ThreadState, window: OptimizerWindow, optimizer: Any) -> None:
        """Handle the end of a step: its window is used up."""
        if not window.stepping:
            return
        if window.steps_within:
            window.steps_within -= 1
            return
        # the closure has called no backward that we intercepted
        if window.ready is None:
            self._reader.read(thread_state, window)
        if window.is_left_out:
            end_left_out(window)
            return
        if window.evaluated and window.num_steps % EVERY == FIRST and self._sampling:
            self._guard.call("optimizer state", self._states.look, window, optimizer, True)
        probed = None
        if window.probe.pending is not None:
            began_s = perf_counter()
            probed = self.probed(window, optimizer)
            if window.num_steps:
                self._spent.probes_s += perf_counter() - began_s
        if window.step is not None:
            complete_step(window, window.step, probed)
            if window.partition is not None and window.partition.is_skipped():
                window.step.flags = StepFlag(int(window.step.flags) | StepFlag.SKIPPED)
        if self._sampling and (window.per_loss.several or len(window.per_loss.sites) > 1):
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
        if window.handed is not None:
            self._guard.call("handed", window.handed.step_ends, window.clearing.parameters)

    def read_evaluated(self, thread_state: ThreadState, window: OptimizerWindow) -> None:
        """Read gradients that the closure has computed without a backward that we intercepted."""
        if window.ready is None:
            self._reader.read(thread_state, window)

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

    def probed(self, window: OptimizerWindow, optimizer: Any) -> ProbedUpdates | None:
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


def _claim(
    thread_state: ThreadState, window: OptimizerWindow, others: Sequence[OptimizerWindow]
) -> None:
    """Assign earlier backwards that reached no other optimizer to one that is first seen when it
    steps.
    """
    if window.partition is not None or any(p.grad is not None for p in window.held()):
        for event in thread_state.iteration.events:
            if event.kind == EventKind.BACKWARD and event.unclaimed:
                event.touched |= window.bit
                window.backward_ended(event.value, event.scale)
                window.clearing.added()
    if window.grad_scale is not None:
        ids = frozenset(map(id, window.held()))
        unscaled = {
            e.optimizer for e in thread_state.iteration.events if e.kind == EventKind.UNSCALE
        }
        if any(w.index in unscaled and ids.issubset(map(id, w.held())) for w in others):
            window.grad_scale = None
