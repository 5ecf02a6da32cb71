"""Follow the training loop and pass on each iteration.

The ready gradient is read at the first of {unscale, clip, step} after the last backward of the
window, before that call changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVarTuple

import torch

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.event_handlers import EventHandlers
from seismograd.capture.event_visits import EventVisits
from seismograd.capture.events import EventName, Listener
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.error_guard import ErrorGuard, failure_message
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.gradient_reductions import GradientReductions
from seismograd.capture.loop.iteration_end import Endings
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.measured_steps import MeasuredSteps
from seismograd.capture.loop.measuring_time import MeasuringTime
from seismograd.capture.loop.overhead_budget import OverheadBudget
from seismograd.capture.loop.session_outlet import NullOutlet, SessionOutlet
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.loop.unused_backwards import closing_note, report_never_stepped, unused
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.optimizer_state import OptimizerStateProbe
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.rows.gradient_sketcher import GradientSketcher
from seismograd.capture.rows.requested_elements import RequestedElements
from seismograd.capture.rows.row_builder import RowBuilder
from seismograd.capture.running_step import RunningStep
from seismograd.capture.steady.extension import make_lock
from seismograd.capture.steady.native_visits import NativeVisits
from seismograd.capture.xray.xray import Xray, XraySchedule
from seismograd.errors import SeismogradError
from seismograd.measure.backend import MeasuringBackend
from seismograd.schema import Fact, Note, Optimizer, RowBatch, SampleBatch
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.device_scalars import Scalar

Ts = TypeVarTuple("Ts")


class Session(Listener):
    """Serves `watch` (some models and optimizers) and `run` (all that the script makes).

    A session only observes the training and knows nothing of files, rules or other processes: those
    get its rows. So what it records does not depend on who consumes it, and a failing consumer
    cannot disturb the training.

    Its results go to the connected outlet; before that they are dropped. `budget` decides when to
    leave something out; without one nothing is. `replays`: models may be called once more
    to find where a NaN arose. `sketch_every`: gradients are sketched at every so many steps of an
    optimizer, 0 for never. `xray`: how often the signals of modules are sampled, by default
    only when asked for. `keeps_batches`: what models were called with stays until the step.
    `measured_steps`: at which steps gradients are measured, by default at all. `short_ways`: what
    nearly every step does is handled the short way (`capture/steady/`), with the same record.
    `compares_often`: the terms of a loss are compared in every tenth step. Its parts report facts
    through `facts`.
    """

    def __init__(
        self,
        backend: MeasuringBackend,
        models: Sequence[torch.nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
        elements: Sequence[ElementSpec] = (),
        sampling: bool = True,
        budget: OverheadBudget | None = None,
        replays: bool = False,
        keeps_batches: bool = False,
        xray: XraySchedule | None = None,
        sketch_every: int = 0,
        measured_steps: MeasuredSteps | None = None,
        short_ways: bool = True,
        compares_often: bool = False,
    ) -> None:
        self._outlet: SessionOutlet = NullOutlet()
        self._is_short = short_ways
        self._log = log = EventLog()
        self.guard = guard = ErrorGuard(self._report)
        self._visits = visits = EventVisits(guard, self._tell_of_steps, make_lock())
        self._lock, self._thread_states = visits.lock, visits.thread_states
        self._registry = registry = OptimizerRegistry(models, optimizers)
        self._asked_for = asked_for = RequestedElements(elements, self._refuse_element)
        parameter_table = registry.parameter_table
        self._iteration_queue = iteration_queue = IterationQueue(
            guard,
            parameter_table,
            RowBuilder(len(asked_for), log.call_sites.sites, registry.optimizers),
            budget,
            Endings(registry),
        )
        self.facts = facts = Facts(self._learn, log.call_sites, lambda: iteration_queue.num_rows)
        self._reductions = reductions = GradientReductions()
        self.spent = spent = MeasuringTime()
        reader = GradientReader(
            backend,
            asked_for,
            registry,
            log,
            iteration_queue,
            sampling,
            reductions,
            GradientSketcher(guard, sketch_every),
            MeasuredSteps() if measured_steps is None else measured_steps,
            spent,
        )
        self._births = BirthObserver(facts, log, registry, replays, keeps_batches)
        self._births.follow_these(models)
        self._xray = Xray(
            registry,
            iteration_queue,
            self._sampled,
            self._note,
            self._births.follow,
            XraySchedule(None) if xray is None else xray,
            spent,
        )
        self._states = OptimizerStateProbe(
            parameter_table, self._sampled, lambda: iteration_queue.num_rows
        )
        self._handlers = EventHandlers(
            guard,
            log,
            registry,
            iteration_queue,
            reader,
            facts,
            self._births,
            self._note,
            sampling,
            reductions,
            self._xray,
            self._states,
            spent,
            compares_often,
        )
        self._native_visits = NativeVisits(self._handlers.short_ways, visits)
        self._running_step = RunningStep(
            self._lock,
            self._thread_states,
            registry,
            iteration_queue,
            self._handlers.steps,
            self._births,
            facts,
        )

    @property
    def running_step(self) -> RunningStep:
        """Return what may be asked of the step that an optimizer is about to make, and done to
        it.
        """
        return self._running_step

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
        # One that has stepped becomes a row only when the next one begins: until then it may step
        # again, as with several optimizers.
        with self._lock:
            return self._iteration_queue.num_rows + sum(
                bool(thread_state.iteration.steps) for thread_state in self._thread_states.all()
            )

    @property
    def training_threads(self) -> Sequence[int]:
        """Return the threads of the program that have been listened to, by their `ident`."""
        return tuple(self._thread_states.by_thread)

    # Called by the hub ----------------------------------------------------------------------------

    def handler(self, event: EventName) -> Callable[..., None]:
        """Return what the method of this event passes it on to."""
        if event == "collective_ends":
            return self.collective_ends
        return partial(
            self._visits.visit, event, self._short(event), getattr(self._handlers, event)
        )

    def dispatcher(
        self,
        event: EventName,
        others: Sequence[tuple[Listener, Callable[..., None]]],
        keeps: Callable[[EventName, tuple[object, ...], BaseException], bool],
    ) -> Callable[..., None] | None:
        """Return what dispatches this event to the session and to these others."""
        if event == "collective_ends":
            return None
        handlers = getattr(self._handlers, event)
        dispatch = self._visits.dispatcher(event, self._short(event), handlers, others, keeps)
        return (
            self._native_visits.dispatcher(event, dispatch, others, keeps)
            if self._is_short
            else dispatch
        )

    def _short(self, event: EventName) -> Callable[..., bool] | None:
        return self._handlers.short_ways.by_event.get(event) if self._is_short else None

    def backward_begins(self, tensors: Any) -> None:
        """A backward of these losses (a tensor, or a tuple of tensors or edges) begins."""
        self._take("backward_begins", self._handlers.backward_begins, tensors)

    def backward_ends(self) -> None:
        """That backward has ended, or raised."""
        self._take("backward_ends", self._handlers.backward_ends)

    def compared(
        self, labels: Sequence[str], parameters: Sequence[torch.Tensor], products: Any, reached: Any
    ) -> None:
        """The script compared losses that it names: inner products of their gradients  # (L, L, P),
        and which loss reaches which parameter  # (L, P).
        """
        self._take("compared", self._handlers.compared, labels, parameters, products, reached)

    def clip_begins(self, parameters: list[Any]) -> None:
        """The gradients of these parameters are about to be clipped."""
        self._take("clip_begins", self._handlers.clip_begins, parameters)

    def clip_ends(self, kind: int, limit: object, total: object, is_l2: bool = True) -> None:
        """That clip is done; `total` is the norm that it found, of which kind `is_l2` says."""
        self._take("clip_ends", self._handlers.clip_ends, kind, limit, total, is_l2)

    def zero_grad_ends(self, owner: Any) -> None:
        """This optimizer or module has cleared its gradients."""
        self._take("zero_grad_ends", self._handlers.zero_grad_ends, owner)

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """The optimizer is about to step; `compiled`: within a compiled function."""
        self._take("step_begins", self._handlers.step_begins, optimizer, closure, compiled)

    def step_ends(self, optimizer: Any) -> None:
        """The optimizer has stepped."""
        self._take("step_ends", self._handlers.step_ends, optimizer)

    def scaler_step_begins(self, optimizer: Any) -> None:
        """A `GradScaler` is about to step the optimizer, or to leave the step out."""
        self._take("scaler_step_begins", self._handlers.scaler_step_begins, optimizer)

    def scaler_step_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scaler has stepped the optimizer, or left the step out."""
        self._take("scaler_step_ends", self._handlers.scaler_step_ends, scaler, optimizer)

    def scaled(self, scaler: Any) -> None:
        """The next backward is of a loss that the scaler has multiplied."""
        self._take("scaled", self._handlers.scaled, scaler)

    def unscale_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scale has been divided out of the optimizer's gradients."""
        self._take("unscale_ends", self._handlers.unscale_ends, scaler, optimizer)

    def scaler_updated(self, scaler: Any) -> None:
        """The scaler may have another scale now."""
        self._take("scaler_updated", self._handlers.scaler_updated, scaler)

    def weighted(self, scale: Scalar) -> None:
        """The next backward is of a loss multiplied by its weight; `scale` will be the total."""
        self._take("weighted", self._handlers.weighted, scale)

    def normalised(self, parameters: list[Any], scale: Scalar | None) -> None:
        """These gradients were divided by the total weight; `scale` is left in them."""
        self._take("normalised", self._handlers.normalised, parameters, scale)

    def stage_scaled(self, parameters: list[Any], divisor: float) -> None:
        """The schedule of a pipeline has divided these gradients by its number of micro-batches."""
        self._take("stage_scaled", self._handlers.stage_scaled, parameters, divisor)

    def schedule_made(self, scheduler: Any) -> None:
        """The script has created a learning rate scheduler, which has set its first rate."""
        self._take("schedule_made", self._handlers.schedule_made, scheduler)

    def scheduled(self, scheduler: Any, metric: object) -> None:
        """The script has stepped this learning rate scheduler, with this metric."""
        self._take("scheduled", self._handlers.scheduled, scheduler, metric)

    def epoch_begins(self, loader: Any) -> None:
        """The script begins to iterate over this data loader."""
        self._take("epoch_begins", self._handlers.epoch_begins, loader)

    def state_loads(self, owner: Any, state: object) -> None:
        """This module or optimizer is about to load a saved state."""
        self._take("state_loads", self._handlers.state_loads, owner, state)

    def collective_ends(
        self, name: str, tensors: list[torch.Tensor], numel: int, in_backward: bool
    ) -> None:
        """This function of `torch.distributed` was called with these tensors."""
        if in_backward:  # perhaps on a thread of autograd, which is none of the training's
            self.guard.call(
                "collective_ends", self._reductions.collective_ends, name, tensors, numel, True
            )
            self._native_visits.forget()
        else:
            self._take("collective_ends", self._handlers.collective_ends, name, tensors, numel)

    def drawn(self, distribution: Any, value: object) -> None:
        """The script has drawn this sample, without a gradient, while gradients are enabled."""
        self._take("drawn", self._handlers.drawn, distribution, value)

    def wants_samples(self) -> bool:
        """Return whether losses are still searched for samples of distributions."""
        return self._handlers.backwards.inspection.sample_cuts.is_listening

    def _take(
        self,
        event: EventName,
        handlers: Sequence[Callable[[ThreadState, *Ts], None]],
        *args: *Ts,
    ) -> None:
        """Handle one event. No exception escapes, except those of the program's own."""
        self._visits.visit(event, None, handlers, *args)

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
                    self._handlers.steps.broken_off,
                    thread_state,
                    args[0],
                    event == "step_ends",
                )
            for window in self._registry.windows:
                if window.thread_state is None or window.thread_state is thread_state:
                    self.guard.call("broken_off", window.clearing.looked_away)

    def abandon(self) -> None:
        """Leave everything to the parent: this is a forked child."""
        # Without the lock: another thread of the parent may have held it at the fork.
        self._xray.stop()  # the last to have patched a class is the first to go
        self._births.stop()
        self._outlet.abandon()

    # Called by the owner --------------------------------------------------------------------------

    def connect(self, outlet: SessionOutlet) -> None:
        """Send everything to this outlet from here on. The consumers of rows read the sites and the
        optimizers of the session, so they are created after it, and connected before the hub is.
        """
        self._outlet = self._iteration_queue.outlet = outlet

    def number_from(self, step: int) -> None:
        """Give this number to the first step, which is still to come."""
        with self._lock:
            self._iteration_queue.num_rows = step

    def pauses(self, *, paused: bool) -> None:
        """Hold nothing of the program's while nothing is heard, or hold it again from now on."""
        with self._lock:
            self.guard.call("birth", self._births.pauses, paused)

    def epoch(self, number: int) -> None:
        """Assign the following iterations to this epoch."""
        with self._lock:
            # One that has stepped ends only with the next backward, which is of the next epoch.
            for thread_state in self._thread_states.all():
                iteration = thread_state.iteration
                if iteration.steps and iteration.epoch is None:
                    iteration.epoch = self._iteration_queue.epoch
            self._iteration_queue.epoch = number

    def xray(self) -> None:
        """Sample the signals of modules in the step that begins now, or the next one where its
        backward is running.
        """
        with self._lock:
            self.guard.call("xray", self._xray.begin_here, self._thread_states.here())

    def xray_soon(self) -> None:
        """Sample them in the next step that can be; may be called on any thread."""
        self._xray.ask()
        self._native_visits.forget()

    def finish(self) -> None:
        """Hand on the last iterations, and report what no step has used."""
        handlers = self._handlers
        with self._lock:
            here = self._thread_states.here()
            # Each under the guard by itself: none of them may cost the rows that come after it.
            self.guard.call("step_by_hand", handlers.backwards.step_by_hand, here, True)
            self.guard.call(
                "never stepped",
                report_never_stepped,
                self.facts,
                self._registry,
                self._log,
                self._thread_states,
                handlers.backwards.num_heard,
            )
            self.guard.call("schedules", handlers.schedules.finish)
            # The last to have patched a class is the first to go: each restores what it found.
            self.guard.call("xray", self._xray.stop)
            self.guard.call("birth", self._births.stop)
            self.guard.call("optimizer state", self._states.finish)
            self.guard.call("elements", self._refuse_unknown_elements)
            left = unused(self._registry)
            # The next iteration, which ends the one before, will not begin any more.
            for thread_state in self._thread_states.all():
                if thread_state.iteration.steps:
                    self.guard.call("turn", self._iteration_queue.end_iteration, thread_state)
            self.flush()
            note = closing_note(
                left,
                self._iteration_queue.num_rows,
                handlers.backwards.num_heard,
                self._log.last_backward(self._thread_states.all()),
            )
            if note is not None:
                self._note(note)
            self._registry.clear()

    def flush(self) -> None:
        """Hand on the iterations that are over, waiting for a device if necessary."""
        with self._lock:
            self._iteration_queue.flush()

    def hand_on_waiting(self) -> None:
        """Hand on finished iterations when no call has come for a while; may run on any thread."""
        with self._lock:
            self.guard.call("waiting", self._iteration_queue.hand_on_old, self._thread_states.all())

    def so_far(self) -> RowBatch | None:
        """Return this thread's current iteration as a row, numbered as it will be; `None` before
        its first step.
        """
        with self._lock:
            return self._iteration_queue.so_far(self._thread_states.here())

    def norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float | None] | None:
        """Return the norms of these gradients as the running clip has just read them, still scaled;
        `None` where it has not.
        """
        return self.guard.call("norms", self._norms_just_read, parameters)

    # Implementation -------------------------------------------------------------------------------

    def _norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float | None]:
        with self._lock:
            clipping = self._thread_states.here().clipping
            return clipping.norms(parameters, self._registry.parameter_table)

    def _tell_of_steps(self) -> None:
        self._outlet.stepped()

    def _note(self, note: Note) -> None:
        self._outlet.note(note)

    def _learn(self, fact: Fact) -> None:
        self._outlet.learn(fact)

    def _sampled(self, batch: SampleBatch) -> None:
        self._outlet.sampled(batch)

    def _report(self, part: str, error: BaseException) -> None:
        message = failure_message(part, error)
        self._note(Note("failure", self._iteration_queue.num_rows, message))

    def _refuse_unknown_elements(self) -> None:
        """Say which requested elements no parameter had."""
        if self._iteration_queue.num_rows:
            for error in self._asked_for.unknown(self._registry.parameter_table.parameters):
                self._refuse_element(error)

    def _refuse_element(self, error: SeismogradError) -> None:
        self._note(Note("element", self._iteration_queue.num_rows, error.message))
