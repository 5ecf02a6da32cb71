"""Hears what the training loop does and hands each iteration on; what a call means is in `calls`.

The ready gradient is read at the first of {unscale, clip, step} after the last backward of the
window, before that call changes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from seismograd.capture.hooks.backward import BackwardHooks
from seismograd.capture.hooks.clip_grad import ClipHooks
from seismograd.capture.hooks.grad_scaler import ScalerHooks
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.hooks.zero_grad import ZeroGradHooks
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration_end import Endings
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.overhead_budget import OverheadBudget
from seismograd.capture.loop.thread_state import ThreadStates
from seismograd.capture.loop.unused_backwards import tell_never_stepped, unused
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.rows.gradient_reading import RequestedElements
from seismograd.capture.rows.row_builder import RowBuilder
from seismograd.errors import SeismogradError
from seismograd.exception_origin import raised_by_user
from seismograd.i18n import Message, say
from seismograd.measure.backend import MeasuringBackend
from seismograd.schema import Fact, Note, Optimizer, RowBatch
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.freed_memory import is_readable


class Session:
    """Serves `watch` (some models and optimizers) and `run` (all that the script makes).

    `emit(batch)` takes finished iterations, one or several; `tell(note)` what has words;
    `learn(fact)` what is known for certain beside the numbers; all are called on the training
    thread and must be quick. `external_overhead_s()` gives the seconds that what listens beside it
    took of the training since the last call. `budget` says when to leave something out; nothing is
    without one. `max_batch_rows()` says how many rows to make at once. Unless `alone()`, an
    iteration ends only when the next one begins: several processes must all cut theirs alike.
    `stepped()` is called once, after the first step. Its parts tell facts through `facts`.
    """

    def __init__(
        self,
        backend: MeasuringBackend,
        emit: Callable[[RowBatch], None],
        tell: Callable[[Note], None],
        models: Sequence[torch.nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
        elements: Sequence[ElementSpec] = (),
        sampling: bool = True,
        abandon: Callable[[], None] = lambda: None,
        external_overhead_s: Callable[[], float] = lambda: 0.0,
        budget: OverheadBudget | None = None,
        max_batch_rows: Callable[[], int] = lambda: 1,
        alone: Callable[[], bool] = lambda: True,
        stepped: Callable[[], None] = lambda: None,
        learn: Callable[[Fact], None] = lambda _: None,
    ) -> None:
        self.abandon = abandon
        self._alone, self._stepped, self._has_stepped = alone, stepped, False
        self._tell = tell
        self._lock = threading.RLock()
        self._thread_states = ThreadStates()
        self._log = log = EventLog()
        self.guard = guard = ErrorGuard(self._report)
        self._registry = registry = OptimizerRegistry(models, optimizers)
        asked_for = RequestedElements(elements, self._refuse_element)
        thread_states, parameter_table = self._thread_states, registry.parameter_table
        self._iteration_queue = iteration_queue = IterationQueue(
            guard,
            thread_states,
            parameter_table,
            RowBuilder(len(asked_for), log.call_sites.sites, registry.optimizers),
            emit,
            tell,
            external_overhead_s,
            budget,
            max_batch_rows,
            Endings(registry),
        )
        self.facts = facts = Facts(learn, log.call_sites, lambda: iteration_queue.num_rows)
        reader = GradientReader(backend, asked_for, registry, log, iteration_queue, sampling)
        self._backwards = backwards = BackwardHooks(
            guard, log, registry, iteration_queue, reader, sampling, facts
        )
        clips = ClipHooks(log, registry, reader, backwards.step_by_hand)
        clearings, scales = ZeroGradHooks(log, registry), ScalerHooks(log, registry, reader)
        self._steps = steps = StepHooks(
            guard, log, registry, iteration_queue, reader, tell, sampling
        )
        self._parts: dict[str, Callable[..., None]] = {
            "backward_begins": backwards.backward_begins,
            "backward_ends": backwards.backward_ends,
            "compared": backwards.compared,
            "clip_begins": clips.clip_begins,
            "clip_ends": clips.clip_ends,
            "zero_grad_ends": clearings.zero_grad_ends,
            "step_begins": steps.step_begins,
            "step_ends": steps.step_ends,
            "scaler_step_begins": steps.scaler_step_begins,
            "scaler_step_ends": steps.scaler_step_ends,
            "scaled": scales.scaled,
            "unscale_ends": scales.unscale_ends,
            "scaler_updated": scales.scaler_updated,
            "weighted": scales.weighted,
            "normalised": scales.normalised,
        }

    @property
    def call_sites(self) -> CallSites:
        """The lines of the script that calls came from."""
        return self._log.call_sites

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers of the run; it only grows."""
        return self._registry.optimizers

    @property
    def num_stepped(self) -> int:
        """How many iterations have made their step."""
        return self._iteration_queue.num_rows + sum(
            bool(thread_state.iteration.steps) for thread_state in self._thread_states.all()
        )

    # What the hub calls ---------------------------------------------------------------------------

    def hear(self, part: str, *args: object) -> None:
        """One call from a patch. Nothing that goes wrong in here comes out, but what the program
        raises meanwhile.
        """
        began = time.perf_counter()
        with self._lock:
            thread_state = self._thread_states.here()
            thread_state.now_s = began
            if not self.guard.failures or not self.guard.leaves_out(part):
                try:
                    self._parts[part](thread_state, *args)
                except Exception as error:
                    if raised_by_user(error):
                        raise
                    self.guard.failed(part, error)
            if not self._has_stepped and thread_state.iteration.steps:
                self._has_stepped = True
                self.guard.call("stepped", self._stepped)
            thread_state.iteration.overhead_s += time.perf_counter() - began

    def failed(self, part: str, error: BaseException) -> None:
        """A call was not heard to its end, by a failure of ours around `hear`."""
        self.guard.failed(part, error)

    def broken_off(self, part: str, *args: object) -> None:
        """A call was not heard to its end: an exception of the program's is on its way. What
        should follow the call does not come.
        """
        with self._lock:
            thread_state = self._thread_states.here()
            thread_state.broken_off()
            if part in ("step_begins", "step_ends"):
                self.guard.call(
                    "broken_off", self._steps.broken_off, thread_state, args[0], part == "step_ends"
                )
            for window in self._registry.windows:
                if window.thread_state is None or window.thread_state is thread_state:
                    self.guard.call("broken_off", window.clearing.looked_away)

    def wants(self, _: str, /) -> bool:
        """Whether it listens to this call at all: it does to every one."""
        return True

    # What the owner calls -------------------------------------------------------------------------

    def epoch(self, number: int) -> None:
        """From here on the iterations belong to this epoch."""
        self._iteration_queue.epoch = number

    def finish(self) -> None:
        """Hand on the last iterations, and say what no step has used."""
        with self._lock:
            self.guard.call(
                "step_by_hand", self._backwards.step_by_hand, self._thread_states.here(), True
            )
            self.guard.call(
                "never stepped",
                tell_never_stepped,
                self.facts,
                self._registry,
                self._log,
                self._thread_states,
                self._backwards.num_heard,
            )
            left = unused(self._registry)
            for thread_state in self._thread_states.all():
                if thread_state.iteration.steps:
                    self.guard.call("turn", self._iteration_queue.end_iteration, thread_state)
            self.flush()
            if not self._iteration_queue.num_rows:
                self._tell(Note("no_step", -1, self._why_no_step()))
            elif left is not None:
                count = left.num_unused()
                message = say(
                    "{count} backwards after the last step were never used by one", count=count
                )
                self._tell(
                    Note(
                        "tail",
                        self._iteration_queue.num_rows,
                        message,
                        count,
                        left.index,
                        self._log.last_backward(self._thread_states.all()),
                    )
                )
            self._registry.clear()

    def flush(self) -> None:
        """Hand on the iterations that are over, waiting for a device where that must be."""
        with self._lock:
            self._iteration_queue.flush()

    def hand_on_waiting(self) -> None:
        """Hand on iterations that are over, when nothing has come for a while; on any thread."""
        with self._lock:
            self.guard.call(
                "waiting",
                self._iteration_queue.hand_on_old,
                self._thread_states.all() if self._alone() else [],
            )

    def so_far(self) -> RowBatch | None:
        """The iteration in the making of this thread as a row, numbered as it will be; `None`
        before its first step.
        """
        with self._lock:
            return self._iteration_queue.so_far(self._thread_states.here())

    def gradients(self) -> dict[str, torch.Tensor]:
        """The gradients as they are now, by the names of their parameters; without those whose
        memory was freed.
        """
        with self._lock:
            parameter_table = self._registry.parameter_table
            held = [
                p
                for window in self._registry
                for p in window.held()
                if p in parameter_table and p.grad is not None and is_readable(p.grad)
            ]
            return {
                parameter_table.parameters[parameter_table.column(p)].name: p.grad
                for p in held
                if p.grad is not None
            }

    def norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float | None]:
        """The norms of these gradients as the clip that is running has just read them, still
        scaled; `None` where it has not.
        """
        with self._lock:
            parameter_table, norms = self._registry.parameter_table, dict[int, float]()
            for reading in self._thread_states.here().clipping.readings:
                reading.settle()
                measured = ~np.isnan(reading.values["nonfinite"])
                norms.update(
                    zip(
                        reading.columns[measured].tolist(),
                        reading.values["grad_norm"][measured].tolist(),
                        strict=True,
                    )
                )
            return [
                norms.get(parameter_table.column(p)) if p in parameter_table else None
                for p in parameters
            ]

    # How it is done -------------------------------------------------------------------------------

    def _why_no_step(self) -> Message:
        if self._backwards.num_heard:
            return say(
                "no optimizer step happened: {count} backwards were heard and no step",
                count=self._backwards.num_heard,
            )
        return say("no optimizer step happened: neither a backward nor a step was heard")

    def _report(self, part: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        message = say(
            "a part of seismograd failed and was left out: {part}: {error}", part=part, error=text
        )
        self._tell(Note("failure", self._iteration_queue.num_rows, message))

    def _refuse_element(self, error: SeismogradError) -> None:
        self._tell(Note("element", self._iteration_queue.num_rows, error.message))
