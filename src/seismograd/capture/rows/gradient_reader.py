"""Decide when and with what to read gradients: the ready ones of a window, or their later
values.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from time import perf_counter
from typing import Any

import torch

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.gradient_reductions import GradientReductions
from seismograd.capture.loop.iteration import GradientReading
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.measured_steps import Extent, MeasuredSteps
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.gradient_reading import (
    NO_ELEMENTS,
    NO_SAMPLES,
    PLAIN,
    read_gradients,
)
from seismograd.capture.rows.gradient_sketcher import GradientSketcher
from seismograd.capture.rows.requested_elements import RequestedElements
from seismograd.capture.rows.window_columns import current_plan, plan_of
from seismograd.measure.backend import MeasureAgain, MeasuringBackend, Prepare, SampleAgain
from seismograd.measure.native import tensor_reads
from seismograd.schema import SAMPLE_EVERY, EventKind
from seismograd.tensors.freed_memory import PLAIN_TYPES

GRADIENT: Callable[[torch.Tensor], Any] = attrgetter("grad")  # without a call of ours for each


class GradientReader:
    """Reads the gradients of one optimizer. `sampling`: include the sampled statistics every so
    often.
    """

    def __init__(
        self,
        backend: MeasuringBackend,
        elements: RequestedElements,
        registry: OptimizerRegistry,
        log: EventLog,
        iteration_queue: IterationQueue,
        sampling: bool,
        reductions: GradientReductions,
        sketcher: GradientSketcher,
        steps: MeasuredSteps,
        spent: MeasuringTime,
    ) -> None:
        self._reductions, self._sketcher = reductions, sketcher
        self._backend, self._elements = backend, elements
        # not every backend has a quicker way
        self._measure_again: MeasureAgain | None = getattr(backend, "measure_again", None)
        self._sample_again: SampleAgain | None = getattr(backend, "sample_again", None)
        self._prepare: Prepare | None = getattr(backend, "prepare", None)
        self._registry, self._log, self._iteration_queue = registry, log, iteration_queue
        self._sampling, self._steps, self._spent = sampling, steps, spent

    def prepare(self, window: OptimizerWindow) -> None:
        """Make ready for the gradients of a window, before it has any."""
        held, table = window.held(), self._registry.parameter_table
        if (
            self._prepare is None
            or window.num_steps
            or window.partition is not None
            or not set(map(type, held)).issubset(PLAIN_TYPES)
            or not all(parameter in table for parameter in held)
        ):
            return
        self._prepare(held, tuple(map(table.column, held)), self._sampling)

    def read(
        self, thread_state: ThreadState, window: OptimizerWindow, sketch: bool | None = None
    ) -> None:
        """Read the ready gradients of a window. `sketch`: whether to sketch them, where the
        schedule was asked already.
        """
        began_s, thinning = perf_counter(), self._iteration_queue.thinning
        extent, sample = self._steps.extent(window, thinning)
        sample = sample and self._sampling
        if sketch is None:
            every = self._sketcher.every
            sketch = (
                every > 0
                and window.num_steps % every == 0
                and extent is Extent.MEASURED
                and self._sketcher.is_due(window, thread_state.now_s)
            )
        if window.partition is not None:
            self._take_loss_scale(thread_state, window, window.partition.loss_scale())
        window.ready = self._reading(thread_state, window, sample, extent, sketch)
        if sketch:
            self._sketcher.sketched(window)
        if window.num_steps:
            # not in a method: each step comes through here
            spent = self._spent
            if sample:
                spent.sampled_s += perf_counter() - began_s
                spent.num_sampled += 1
            else:
                spent.plain_s += perf_counter() - began_s
                spent.num_plain += 1

    def read_again(
        self, thread_state: ThreadState, window: OptimizerWindow, held: list[torch.Tensor]
    ) -> None:
        """Read the ready gradients of a window that has these parameters behind its last backward:
        at once where they lie as they did, else as `read` does.
        """
        began_s, planned = perf_counter(), window.plan
        table, measure = self._registry.parameter_table, self._measure_again
        every, turn = self._sketcher.every, window.num_steps % SAMPLE_EVERY
        # `_is_looked_for`, without a call; what is found makes another version of the table
        if turn == 0 < window.num_steps or window.num_steps == 1:
            table.look_for_others()
        if (
            measure is None
            or window.num_steps == 0
            or planned is None
            or planned.version != table.version
            or planned.unowned
            or planned.frozen
            or table.died
            or planned.num_gone != table.known_gone
            or self._steps.every > 1
            or self._iteration_queue.thinning.full_every > 1
            or self._elements.specs
            or self._log.waiting
        ):
            self.read(thread_state, window)
            return
        sketch = False  # asked once only, as the schedule learns from that
        if every and window.num_steps % every == 0:
            sketch = self._sketcher.is_due(window, thread_state.now_s)
        gradients = tensor_reads.gradients(held, planned.ids)
        if gradients is None and planned.ids == list(map(id, held)):
            asked = list(map(GRADIENT, held))
            if PLAIN.issuperset(map(type, asked)):
                gradients = asked
        samples, measured, sample = NO_SAMPLES, None, False
        if turn == 0:  # of those of every tenth step some may be left out
            sample_every = self._iteration_queue.thinning.sample_every
            sample = self._sampling and window.num_steps % sample_every == 0
        if gradients is None:
            pass
        elif not sample:
            measured = measure(gradients, planned.columns)
        elif self._sample_again is not None:
            sampled = self._sample_again(gradients, held, planned.columns)
            if sampled is not None:
                values, samples, is_ordinary = sampled
                measured = values, is_ordinary
        if measured is None:
            self.read(thread_state, window, sketch)
            return
        sketches = self._sketcher.sketch(gradients) if sketch and gradients else None
        window.num_collectives = self._reductions.num_before
        window.num_parameters = len(held)
        values, is_ordinary = measured
        # of all gradients of the plan, and nothing is needed but these numbers
        window.ready = GradientReading(
            planned.positions,
            planned.numels,
            None,
            values,
            samples,
            NO_ELEMENTS,
            window.grad_scale,
            tuple(window.losses),
            window.loss_scale,
            planned.whole,
            None,
            False,
            None if sketches is None else sketches.values,
            is_ordinary,
        )
        if sketch:
            self._sketcher.sketched(window)
        spent = self._spent
        if sample:
            spent.sampled_s += perf_counter() - began_s
            spent.num_sampled += 1
        else:
            spent.plain_s += perf_counter() - began_s
            spent.num_plain += 1

    def _take_loss_scale(
        self, thread_state: ThreadState, window: OptimizerWindow, factor: float
    ) -> None:
        """Note what a framework has multiplied the losses of this window by itself."""
        if factor == 1:
            return
        window.grad_scale = window.loss_scale = scale = self._log.scalar(factor)
        for event in thread_state.iteration.events:
            if event.kind == EventKind.BACKWARD and event.scale is None:
                event.scale = scale

    def take_reduction(self, window: OptimizerWindow) -> bool:
        """Return whether the script has reduced these gradients since they were read.

        If nothing has clipped them yet, an earlier reading no longer describes them.
        """
        reductions = self._reductions
        if not (reductions.since_backward or reductions.is_stage):
            return False
        if not reductions.since_read(window):
            return False
        window.num_collectives = self._reductions.num_heard
        window.eager = False
        if not window.clips and not window.stepping:
            window.ready = None
        return True

    def applied(self, thread_state: ThreadState, window: OptimizerWindow) -> GradientReading | None:
        """Read the gradients as the step will use them; `None` where its ready ones are not
        read.
        """
        if window.ready is not None and window.ready.is_unread:
            return None
        return self._reading(thread_state, window, False, Extent.MEASURED, False)

    def _reading(
        self,
        thread_state: ThreadState,
        window: OptimizerWindow,
        sample: bool,
        extent: Extent,
        sketch: bool,
    ) -> GradientReading:
        """Read the current gradients of a window."""
        parameter_table, held = self._registry.parameter_table, window.held()
        reductions = self._reductions
        window.num_collectives = reductions.num_before + len(reductions.since_backward)
        if _is_looked_for(window):
            parameter_table.look_for_others()
        planned = (
            current_plan(window, parameter_table, held) if window.clearing.parameters else None
        )
        if planned is None:
            self._registry.learn(window)
            planned = plan_of(window, parameter_table, held)
        window.num_parameters = len(held)
        running = (
            []
            if thread_state.loss is None or any(loss is thread_state.loss for loss in window.losses)
            else [thread_state.loss]
        )
        if running and window.loss_scale is None:
            window.grad_scale = window.loss_scale = thread_state.loss_scale
        waiting = self._log.take_waiting() if self._log.waiting else []
        return read_gradients(
            window,
            planned,
            held,
            parameter_table,
            self._backend,
            self._elements,
            waiting,
            running,
            sample,
            extent,
            self._sketcher.sketch if sketch else None,
        )


def _is_looked_for(window: OptimizerWindow) -> bool:
    """Return whether to look for other parameters: once the first step is made, then in each with
    samples.
    """
    return window.num_steps == 1 or (window.num_steps > 0 and window.num_steps % SAMPLE_EVERY == 0)
