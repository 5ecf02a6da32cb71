"""Decide which steps are sampled for the signals of modules, and hand on what was measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.xray.call_record import batch_of
from seismograd.capture.xray.followed_modules import followed_modules
from seismograd.capture.xray.module_calls import ModuleCalls, classes_of
from seismograd.capture.xray.signal_recorder import SignalRecorder
from seismograd.i18n import say
from seismograd.schema import Note, SampleBatch
from seismograd.tensors.device_scalars import Scalar

FREE_STEP_S = 1.25e-4  # of each step, a quarter of what is always allowed
NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class XraySchedule:
    """How often a step is sampled: every `every`-th at the most, and never more often than takes
    this share of the time. Without `every` only where it is asked for.
    """

    every: int | None = 100
    share: float = 0.005
    free_step_s: float = FREE_STEP_S


class Xray:
    """Observes one step now and then. `switch` has it hear of backwards and steps, which it does
    only then: at any other step it costs one call and a comparison.

    It begins behind a step and ends with the next step of the same optimizer; what was measured
    belongs to the step whose backward reached it.
    """

    def __init__(
        self,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        emit: Callable[[SampleBatch], None],
        note: Callable[[Note], None],
        follow: Callable[[], None],
        schedule: XraySchedule,
        spent: MeasuringTime,
    ) -> None:
        self._registry, self._iteration_queue = registry, iteration_queue
        self._emit, self._note, self._follow = emit, note, follow
        self.switch: Callable[[bool], None] = lambda _: None
        self._schedule = schedule
        self.recorder: SignalRecorder | None = None
        self._calls: list[ModuleCalls] = []  # not all of which could be removed
        self._step = -1  # of its backward
        self._scale: Scalar | None = None
        # whether the next step is sampled, and the one from which on another may be; whoever sees
        # by them that nothing begins need not call
        self.asked = False
        self.due = NEVER if schedule.every is None else 0
        self._began_s = time.perf_counter()
        self._spent = spent
        self._has_said = False

    def ask(self) -> None:
        """Sample the next step that can be; may be called on any thread."""
        self.asked = True

    def begin_here(self, thread_state: ThreadState) -> None:
        """Sample the step that begins now, if no backward is running; else the next one."""
        self.asked = True
        if self.recorder is None and thread_state.loss is None:
            self._begin()

    def step_ends(self, thread_state: ThreadState, optimizer: Any) -> None:
        """Begin where the next step is due, or end behind a step that has evaluated the loss."""
        if self.recorder is not None:
            if self._step >= 0:
                self._end(thread_state, optimizer)
        elif self.asked:
            self._begin()
        elif self._iteration_queue.num_rows + 1 >= self.due:
            if self._is_affordable():
                self._begin()
            else:
                self.due = self._following(self._iteration_queue.num_rows + 1)

    def backward_begins(self, thread_state: ThreadState, _: Any) -> None:
        """Note what the loss is multiplied by."""
        if self._step < 0:
            self._scale = thread_state.loss_scale

    def backward_ends(self, _: ThreadState) -> None:
        """Note the step that it belongs to."""
        if self.recorder is not None:
            self.recorder.backward_ended()
            if self._step < 0:
                self._step = self._iteration_queue.num_rows

    def step_begins(
        self, thread_state: ThreadState, optimizer: Any, closure: bool, compiled: bool
    ) -> None:
        """Hand on what was measured; within a step with a closure that is still to come."""
        del compiled
        if not closure and self._step >= 0:
            self._end(thread_state, optimizer)

    def stop(self) -> None:
        """Leave no trace."""
        if self.recorder is not None:
            self.recorder.finish()
            self.recorder = None
            self.switch(False)
        self._remove()

    def _begin(self) -> None:
        self.asked = False
        self._follow()
        self._remove()
        models = list(self._registry.parameter_table.models())
        followed, compiled = followed_modules(models)
        number = self._iteration_queue.num_rows + 1
        self.due = self._following(number)
        if compiled and not self._has_said:
            self._has_said = True
            text = say("the signals of modules that are compiled are not measured")
            self._note(Note("xray", number, text))
        if not followed:
            return
        modules = [each.module() for each in followed.values()]
        recorder = SignalRecorder(followed, threading.get_ident())
        calls = ModuleCalls(recorder)
        self._calls.append(calls)
        self._step, self._scale, self.recorder = -1, None, recorder
        calls.install(classes_of(modules), attention=not compiled)
        self.switch(True)

    def _end(self, thread_state: ThreadState, optimizer: Any) -> None:
        recorder, self.recorder = self.recorder, None
        step, self._step = self._step, -1
        self.switch(False)
        self._remove()
        window = self._registry.known(optimizer)
        if recorder is None:
            return
        records = recorder.finish()
        self._spent.signals_s += recorder.cost_s
        thread_state.iteration.overhead_s += recorder.cost_s
        scale = 1.0 if self._scale is None else self._scale.read()
        batch = batch_of(records, step, -1 if window is None else window.index, scale)
        if batch is not None:
            self._emit(batch)

    def _following(self, number: int) -> int:
        """Return when the next sample is due behind the step of this number."""
        every = self._schedule.every
        return NEVER if every is None else (number // every + 1) * every

    def _is_affordable(self) -> bool:
        """Return whether what one more costs, by what they have cost so far, is within the
        share.
        """
        if not self._spent.signals_s:
            return True
        allowed_s = max(
            self._schedule.share * (time.perf_counter() - self._began_s),
            self._schedule.free_step_s * self._iteration_queue.num_rows,
        )
        return self._spent.signals_s <= allowed_s

    def _remove(self) -> None:
        """Restore the classes of modules, now or as soon as nothing lies above."""
        for calls in self._calls:
            calls.remove()
        self._calls = [calls for calls in self._calls if calls.is_installed]
