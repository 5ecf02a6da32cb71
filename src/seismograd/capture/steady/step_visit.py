"""The short way of an optimizer's step."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import torch

from seismograd.capture.loop.iteration import OptimizerStep
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.step_record import complete_step, record_step
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.probes.optimizer_state import EVERY, FIRST
from seismograd.capture.probes.symmetry import LAST_EARLY_LOOK
from seismograd.capture.rows.window_columns import NO_COLUMNS
from seismograd.capture.steady.steady_parts import SteadyParts
from seismograd.exception_origin import raised_by_user
from seismograd.measure.native import tensor_reads
from seismograd.schema import SAMPLE_EVERY, EventKind, StepFlag
from seismograd.tensors.device_scalars import Scalar


class StepVisit:
    """Handles what `capture.hooks.optimizer_step.StepHooks`, and the probes beside it, do with a
    step of the only optimizer on the gradients of its last backward.
    """

    def __init__(self, parts: SteadyParts) -> None:
        self._loop, self._guard, self._log = parts.loop, parts.guard, parts.log
        self._registry, self._iteration_queue = parts.registry, parts.iteration_queue
        self._reader, self._sampling, self._steps = parts.reader, parts.sampling, parts.steps
        self._births, self._reductions, self._spent = parts.births, parts.reductions, parts.spent
        self._coverage, self._successors = parts.coverage, parts.successors
        self._overwritten, self._rates, self._xray = parts.overwritten, parts.rates, parts.xray
        self._looks, self._late_looks = parts.looks, parts.late_looks
        self._rate, self._lr = math.nan, Scalar(math.nan)  # of the last step

    def step_begins(
        self, thread_state: ThreadState, optimizer: Any, closure: bool, compiled: bool
    ) -> bool:
        """Handle its start, or return `False` for the full way."""
        loop, registry, reductions = self._loop, self._registry, self._reductions
        window = loop.window
        if (
            window is None
            or closure
            or compiled
            or optimizer is not loop.optimizer()
            or window.num_made > 1
            or window.stepping
            or window.thread_state is not thread_state
            or thread_state.loss is not None
            or thread_state.iteration.steps
            or registry.open_windows is not loop.windows
            or registry.died
            or reductions.since_backward
            or reductions.is_stage
            or self._rates.loaded
            or self._xray.recorder is not None
            or (own := optimizer.__dict__).get("grad_scale") is not None
        ):
            return False
        clearing = window.clearing
        if clearing.is_used or True in clearing.carried:
            return False
        now = tensor_reads.marks(clearing.parameters)
        if now != clearing.last or now == clearing.none:
            return False
        for clip in window.clips:
            if not clip.by_norm:
                return False
        # where nearly all optimizers have them; else as `OptimizerWindow.held` and `record_step` do
        groups: Any = own.get("param_groups")
        params: Any = None
        rate: Any = None
        if type(groups) is list and len(groups) == 1 and type(groups[0]) is dict:  # pyright: ignore
            params, rate = groups[0].get("params"), groups[0].get("lr")  # pyright: ignore
        held: list[torch.Tensor] = params.copy() if type(params) is list else window.held()  # pyright: ignore
        window.steps_within = 0
        window.stepping, window.closure = True, False
        if window.ready is None:
            self._reader.read_again(thread_state, window, held)
        ready, births = window.ready, self._births
        try:
            if ready is None or not ready.is_ordinary or births.keeps_batches:
                births.step_begins(window, held)
            else:  # the same, where nothing is to be looked at
                births.operands.losses.clear()
                if births.calls is not None and births.calls.calls:
                    births.calls.drop(held)
        except Exception as error:
            if raised_by_user(error):
                raise
            self._guard.failed("birth", error)
        if type(rate) is float:  # pyright: ignore
            self._record(thread_state, window, rate)
        else:
            table = registry.parameter_table
            record_step(self._log, table, thread_state, window, optimizer, StepFlag.NONE, None)
        is_allowed = self._sampling and self._iteration_queue.thinning.extras
        if is_allowed and window.num_steps % EVERY == FIRST and ready is not None:
            began_s = perf_counter()
            self._steps.look_at_state(window, optimizer)
            self._spent.probes_s += perf_counter() - began_s
        if is_allowed and (ready is None or not ready.is_unread):
            num = window.probe.num_requested(window.num_parameters or len(held))
            if num:
                self._copy_weights(window, held, optimizer, num)
        if window.clips:
            self._coverage.step_begins(thread_state, optimizer, closure, compiled)
        successors = self._successors
        if successors.common or successors.loaded or successors.compared is not loop.windows:
            successors.step_begins(thread_state, optimizer)
        if window.num_steps <= LAST_EARLY_LOOK or window.num_steps % SAMPLE_EVERY == 0:
            for look in self._looks if window.num_steps <= LAST_EARLY_LOOK else self._late_looks:
                look(thread_state, optimizer)
        self._overwritten.step_begins(window, loop.windows, is_allowed)
        return True

    def _record(self, thread_state: ThreadState, window: OptimizerWindow, rate: float) -> None:
        """Add the step, whose only group has this rate, as `record_step` does."""
        if rate is not self._rate:
            self._lr, self._rate = Scalar(rate), rate
        lr, scale = self._lr, window.grad_scale
        captured = self._log.record(thread_state, EventKind.STEP, window.index, lr, lr, 0, scale)
        captured.touched = window.bit
        window.was_stepped = True
        step = OptimizerStep(
            window.index,
            window.num_steps,
            lr,
            window.num_backwards,
            StepFlag.NONE,
            NO_COLUMNS,
            tuple(window.clips),
            window.ready,
        )
        thread_state.iteration.steps.append(step)
        window.step, window.step_heard = step, captured

    def _copy_weights(
        self, window: OptimizerWindow, held: list[torch.Tensor], optimizer: Any, num: int
    ) -> None:
        """Have the probe copy slices of the weights whose turn it is, so many."""
        began_s = perf_counter()
        self._guard.call("probe", window.probe.step_begins, held, False, num, optimizer)
        if window.num_steps:
            self._spent.probes_s += perf_counter() - began_s

    def step_ends(self, thread_state: ThreadState, optimizer: Any) -> bool:
        """Handle its end, or return `False` and leave everything as it is."""
        loop = self._loop
        window = loop.window
        if (
            window is None
            or optimizer is not loop.optimizer()
            or not window.stepping
            or window.steps_within
            or window.ready is None
            or window.step is None
            or window.is_left_out
            or window.evaluated
            or window.per_loss.several
            or len(window.per_loss.sites) > 1
            or self._successors.common
            or self._registry.died
            or self._registry.open_windows is not loop.windows
        ):
            return False
        is_allowed = self._sampling and self._iteration_queue.thinning.extras
        self._overwritten.step_ends(window, is_allowed)
        probed = None
        if window.probe.pending is not None:
            began_s = perf_counter()
            probed = self._steps.probed(window, optimizer)
            if window.num_steps:
                self._spent.probes_s += perf_counter() - began_s
        step = window.step
        if window.closure or window.carried is not None:
            complete_step(window, step, probed)
        else:  # the same of what is left
            step.probed, step.reading, step.clips = probed, window.ready, tuple(window.clips)
            if step.num_backwards < window.num_backwards:
                step.num_backwards = window.num_backwards
            step.applied = window.applied or step.applied
        per_loss = window.per_loss
        if not per_loss.taking:  # what `clear` does where nothing is compared, without its call
            per_loss.sites, per_loss.is_clear = [], True
        window.step_ended()
        xray = self._xray
        if (
            xray.recorder is not None
            or xray.asked
            or self._iteration_queue.num_rows + 1 >= xray.due
        ):
            xray.step_ends(thread_state, optimizer)
        return True
