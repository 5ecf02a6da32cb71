"""Follow the training loop and hand on each iteration; what a call means is in `calls`.

The ready gradient is read at the first of {unscale, clip, step} after the last backward of the
window, before that call changes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVarTuple

import numpy as np
import torch

from seismograd.capture.events import EventName, Listener
from seismograd.capture.graph.remade_parameters import RemadeParameters
from seismograd.capture.hooks.backward import BackwardHooks
from seismograd.capture.hooks.clip_grad import ClipHooks
from seismograd.capture.hooks.collectives import CollectiveHooks
from seismograd.capture.hooks.grad_scaler import ScalerHooks
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.hooks.zero_grad import ZeroGradHooks
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.gradient_reductions import GradientReductions
from seismograd.capture.loop.iteration_end import Endings
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.overhead_budget import OverheadBudget
from seismograd.capture.loop.session_outlet import NullOutlet, SessionOutlet
from seismograd.capture.loop.thread_state import ThreadState, ThreadStates
from seismograd.capture.loop.unused_backwards import tell_never_stepped, unused
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.clip_coverage import ClipCoverage
from seismograd.capture.probes.group_settings import GroupSettings
from seismograd.capture.probes.modes import Modes
from seismograd.capture.probes.schedules import Schedules
from seismograd.capture.probes.successors import Scalers, Successors
from seismograd.capture.probes.symmetry import Symmetry
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.rows.gradient_reading import RequestedElements
from seismograd.capture.rows.row_builder import RowBuilder
from seismograd.errors import SeismogradError
from seismograd.exception_origin import raised_by_user
from seismograd.i18n import Message, say
from seismograd.measure.backend import MeasuringBackend
from seismograd.schema import Fact, Note, Optimizer, RowBatch
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.gradient_file import save_gradients

Ts = TypeVarTuple("Ts")


class Session(Listener):
    """Serves `watch` (some models and optimizers) and `run` (all that the script makes).

    A session only observes the training and knows nothing of files, rules or other processes: those
    get its rows. So what it records does not depend on who consumes it, and a failing consumer
    cannot disturb the training.

    Its results go to the connected outlet; before that they are dropped. `budget` decides when to
    leave something out; without one nothing is. Its parts report facts through `facts`.
    """

    def __init__(
        self,
        backend: MeasuringBackend,
        models: Sequence[torch.nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
        elements: Sequence[ElementSpec] = (),
        sampling: bool = True,
        budget: OverheadBudget | None = None,
    ) -> None:
        self._outlet: SessionOutlet = NullOutlet()
        self._has_stepped = False
        # One lock for all threads, since they share optimizers and columns, and a call takes
        # microseconds. Reentrant, because a signal handler of the program's may train in the middle
        # of a call.
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
            budget,
            Endings(registry),
        )
        self.facts = facts = Facts(self._learn, log.call_sites, lambda: iteration_queue.num_rows)
        reductions = GradientReductions()
        reader = GradientReader(
            backend, asked_for, registry, log, iteration_queue, sampling, reductions
        )
        self._backwards = backwards = BackwardHooks(
            guard, log, registry, iteration_queue, reader, sampling, facts
        )
        clips = ClipHooks(log, registry, reader, backwards.step_by_hand)
        clearings, scales = ZeroGradHooks(log, registry), ScalerHooks(log, registry, reader)
        self._steps = StepHooks(
            guard, log, registry, iteration_queue, reader, self._note, sampling, facts
        )
        self._schedules = Schedules(
            facts,
            log,
            registry,
            lambda: self._backwards.num_heard,
            lambda: iteration_queue.num_rows,
        )
        successors, scalers = Successors(facts, log, registry), Scalers(facts, log)
        settings, symmetry = GroupSettings(facts, registry), Symmetry(facts, registry)
        modes = Modes(facts, log, parameter_table)
        remade = RemadeParameters(facts, log, parameter_table)
        self._clips, self._clearings, self._scales = clips, clearings, scales
        self._reductions = reductions
        self._collectives = CollectiveHooks(registry, reader, reductions)
        self._backward_begins = _in_turn(
            lambda _, __: reductions.backward_begins(),
            backwards.backward_begins,
            modes.backward_begins,
            remade.backward_begins,
        )
        self._step_begins = _in_turn(
            self._steps.step_begins,
            ClipCoverage(facts, registry).step_begins,
            successors.step_begins,
            settings.step_begins,
            symmetry.step_begins,
        )
        self._step_ends = _in_turn(successors.step_ends, self._steps.step_ends)
        self._scaler_step_ends = _in_turn(self._steps.scaler_step_ends, scalers.scaler_step_ends)
        self._scaled = _in_turn(scales.scaled, scalers.scaled)

    @property
    def call_sites(self) -> CallSites:
        """Return the lines of the script that calls came from."""
        return self._log.call_sites

    @property
    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers of the run; the list only grows."""
        return self._registry.optimizers

    @property
    def num_stepped(self) -> int:
        """Return how many iterations have made their step."""
        return self._iteration_queue.num_rows + sum(
            bool(thread_state.iteration.steps) for thread_state in self._thread_states.all()
        )

    # Called by the hub ----------------------------------------------------------------------------

    def backward_begins(self, tensors: Any) -> None:
        """A backward of these losses (a tensor, or a tuple of tensors or edges) begins."""
        self._take("backward_begins", self._backward_begins, tensors)

    def backward_ends(self) -> None:
        """That backward has ended, or raised."""
        self._take("backward_ends", self._backwards.backward_ends)

    def compared(
        self, labels: Sequence[str], parameters: Sequence[torch.Tensor], products: Any, reached: Any
    ) -> None:
        """The script compared losses that it names: inner products of their gradients  # (L, L, P),
        and which loss reaches which parameter  # (L, P).
        """
        self._take("compared", self._backwards.compared, labels, parameters, products, reached)

    def clip_begins(self, parameters: list[Any]) -> None:
        """The gradients of these parameters are about to be clipped."""
        self._take("clip_begins", self._clips.clip_begins, parameters)

    def clip_ends(self, kind: int, limit: object, total: object, is_l2: bool = True) -> None:
        """That clip is done; `total` is the norm that it found, of which kind `is_l2` says."""
        self._take("clip_ends", self._clips.clip_ends, kind, limit, total, is_l2)

    def zero_grad_ends(self, owner: Any) -> None:
        """This optimizer or module has cleared its gradients."""
        self._take("zero_grad_ends", self._clearings.zero_grad_ends, owner)

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """The optimizer is about to step; `compiled`: within a compiled function."""
        self._take("step_begins", self._step_begins, optimizer, closure, compiled)

    def step_ends(self, optimizer: Any) -> None:
        """The optimizer has stepped."""
        self._take("step_ends", self._step_ends, optimizer)

    def scaler_step_begins(self, optimizer: Any) -> None:
        """A `GradScaler` is about to step the optimizer, or to leave the step out."""
        self._take("scaler_step_begins", self._steps.scaler_step_begins, optimizer)

    def scaler_step_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scaler has stepped the optimizer, or left the step out."""
        self._take("scaler_step_ends", self._scaler_step_ends, scaler, optimizer)

    def scaled(self, scaler: Any) -> None:
        """The next backward is of a loss that the scaler has multiplied."""
        self._take("scaled", self._scaled, scaler)

    def unscale_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scale has been divided out of the optimizer's gradients."""
        self._take("unscale_ends", self._scales.unscale_ends, scaler, optimizer)

    def scaler_updated(self, scaler: Any) -> None:
        """The scaler may have another scale now."""
        self._take("scaler_updated", self._scales.scaler_updated, scaler)

    def weighted(self, scale: Scalar) -> None:
        """The next backward is of a loss multiplied by its weight; `scale` will be the total."""
        self._take("weighted", self._scales.weighted, scale)

    def normalised(self, parameters: list[Any], scale: Scalar | None) -> None:
        """These gradients were divided by the total weight; `scale` is left in them."""
        self._take("normalised", self._scales.normalised, parameters, scale)

    def scheduled(self, scheduler: Any, metric: object) -> None:
        """The script has stepped this learning rate scheduler, with this metric."""
        self._take("scheduled", self._schedules.scheduled, scheduler, metric)

    def epoch_begins(self, loader: Any) -> None:
        """The script begins to iterate over this data loader."""
        self._take("epoch_begins", self._schedules.epoch_begins, loader)

    def collective_ends(
        self, name: str, tensors: list[torch.Tensor], numel: int, in_backward: bool
    ) -> None:
        """This function of `torch.distributed` was called with these tensors."""
        if in_backward:  # perhaps on a thread of autograd, which is none of the training's
            self.guard.call("collective_ends", self._reductions.heard, name, tensors, numel, True)
        else:
            self._take("collective_ends", self._collectives.collective_ends, name, tensors, numel)

    def _take(
        self,
        event: EventName,
        handle: Callable[[ThreadState, *Ts], None],
        *args: *Ts,
    ) -> None:
        """Handle one event. No exception escapes, except those of the program's own."""
        began = time.perf_counter()
        with self._lock:
            thread_state = self._thread_states.here()
            thread_state.now_s = began
            if not self.guard.failures or not self.guard.leaves_out(event):
                try:
                    handle(thread_state, *args)
                # Only `Exception`: KeyboardInterrupt and its like are the program's, and pass.
                except Exception as error:
                    if raised_by_user(error):
                        raise
                    self.guard.failed(event, error)
            if not self._has_stepped and thread_state.iteration.steps:
                self._has_stepped = True
                self.guard.call("stepped", self._outlet.stepped)
            # Around everything, the wait for the lock included: the budget and the user's report go
            # by this.
            thread_state.iteration.overhead_s += time.perf_counter() - began

    def failed(self, event: EventName, error: BaseException) -> None:
        """Note that a failure of ours around an event ended it early."""
        self.guard.failed(event, error)

    def broken_off(self, event: EventName, *args: object) -> None:
        """Note that an exception of the program's ended a call early. What should follow the call
        will not come.
        """
        with self._lock:
            thread_state = self._thread_states.here()
            thread_state.broken_off()
            if event in ("step_begins", "step_ends"):
                self.guard.call(
                    "broken_off",
                    self._steps.broken_off,
                    thread_state,
                    args[0],
                    event == "step_ends",
                )
            for window in self._registry.windows:
                if window.thread_state is None or window.thread_state is thread_state:
                    self.guard.call("broken_off", window.clearing.looked_away)

    def abandon(self) -> None:
        """Leave everything to the parent: this is a forked child."""
        self._outlet.abandon()

    # Called by the owner --------------------------------------------------------------------------

    def connect(self, outlet: SessionOutlet) -> None:
        """Send everything to this outlet from here on. The consumers of rows read the sites and the
        optimizers of the session, so they are created after it, and connected before the hub is.
        """
        self._outlet = self._iteration_queue.outlet = outlet

    def epoch(self, number: int) -> None:
        """Assign the following iterations to this epoch."""
        self._iteration_queue.epoch = number

    def finish(self) -> None:
        """Hand on the last iterations, and report what no step has used."""
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
            self.guard.call("schedules", self._schedules.finish)
            left = unused(self._registry)
            for thread_state in self._thread_states.all():
                if thread_state.iteration.steps:
                    self.guard.call("turn", self._iteration_queue.end_iteration, thread_state)
            self.flush()
            if not self._iteration_queue.num_rows:
                self._note(Note("no_step", -1, self._why_no_step()))
            elif left is not None:
                count = left.num_unused()
                message = say(
                    "backward passes after the last step() whose gradients no step() used: {count}",
                    count=count,
                )
                self._note(
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
        """Hand on the iterations that are over, waiting for a device if necessary."""
        with self._lock:
            self._iteration_queue.flush()

    def hand_on_waiting(self) -> None:
        """Hand on finished iterations when no call has come for a while; may run on any thread."""
        with self._lock:
            self.guard.call(
                "waiting",
                self._iteration_queue.hand_on_old,
                self._thread_states.all() if self._outlet.is_alone else [],
            )

    def so_far(self) -> RowBatch | None:
        """Return this thread's current iteration as a row, numbered as it will be; `None` before
        its first step.
        """
        with self._lock:
            return self._iteration_queue.so_far(self._thread_states.here())

    def save_gradients(self, path: Path) -> None:
        """Write the current gradients, by the names of their parameters, to a file; without those
        whose memory was freed.
        """
        with self._lock:
            parameter_table = self._registry.parameter_table
            held = [
                p
                for window in self._registry
                for p in window.held()
                if p in parameter_table and p.grad is not None and is_readable(p.grad)
            ]
            gradients = {
                parameter_table.parameters[parameter_table.column(p)].name: p.grad
                for p in held
                if p.grad is not None
            }
            save_gradients(gradients, path)

    def norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float | None] | None:
        """Return the norms of these gradients as the running clip has just read them, still scaled;
        `None` where it has not.
        """
        return self.guard.call("norms", self._norms_just_read, parameters)

    # Implementation -------------------------------------------------------------------------------

    def _norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float | None]:
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

    def _note(self, note: Note) -> None:
        self._outlet.note(note)

    def _learn(self, fact: Fact) -> None:
        self._outlet.learn(fact)

    def _why_no_step(self) -> Message:
        if self._backwards.num_heard:
            return say(
                "optimizer.step() was never called; calls to backward(): {count}",
                count=self._backwards.num_heard,
            )
        return say("neither backward() nor optimizer.step() was ever called")

    def _report(self, part: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        message = say(
            "a part of seismograd failed and was disabled: {part}: {error}", part=part, error=text
        )
        self._note(Note("failure", self._iteration_queue.num_rows, message))

    def _refuse_element(self, error: SeismogradError) -> None:
        self._note(Note("element", self._iteration_queue.num_rows, error.message))


def _in_turn(*handlers: Callable[[*Ts], None]) -> Callable[[*Ts], None]:
    """Return a handler that calls these, one after another."""

    def handle(*args: *Ts) -> None:
        for each in handlers:
            each(*args)

    return handle
