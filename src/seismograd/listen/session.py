"""Hears what the training loop does, decides when to read the gradients, and hands each iteration on.

The ready gradient is read at the first of {unscale, clip, step} after the last backward of the window, before that call changes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from seismograd.elements import ElementSpec
from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.listen.applied import Clip
from seismograd.listen.budget import Budget
from seismograd.listen.callsite import CallSites
from seismograd.listen.graph import Leaf, leaves_in_order
from seismograd.listen.guard import Guard
from seismograd.listen.iteration import Reading, Stepped
from seismograd.listen.lanes import Clipping, Lane, Lanes
from seismograd.listen.log import Log
from seismograd.listen.losses import Losses
from seismograd.listen.pairs import Compared
from seismograd.listen.patches.clip import NORM
from seismograd.listen.patches.step import is_within_a_step
from seismograd.listen.probe import Probed
from seismograd.listen.reading import NO_COLUMNS, Elements, carried_columns, columns_of, known_plan, look_at, plan, read
from seismograd.listen.registry import Registry
from seismograd.listen.scalars import Scalar, total_of
from seismograd.listen.turns import Turns
from seismograd.listen.windows import Window
from seismograd.measure.backend import Backend
from seismograd.schema import EventFlag, EventKind, Note, Optimizer, Row, Rows, StepFlag

BY_OPTIMIZER, BY_MODULE = 1, 2
# Arithmetic on flags takes a microsecond, on numbers none.
NO_BACKWARD, SKIPPED = int(StepFlag.NO_BACKWARD), int(StepFlag.SKIPPED)
SHARED, USED, EMPTY = int(EventFlag.SHARED), int(EventFlag.USED), int(EventFlag.EMPTY)


class Session:
    """Serves `watch` (some models and optimizers) and `run` (all that the script makes).

    `emit(row)` takes each finished iteration, or several as `Rows`; `tell(note)` what has words; both are called on the training thread
    and must be quick.
    `beside()` gives the seconds that what listens beside it took of the training since the last call. `budget` says when to leave
    something out; nothing is without one. `together()` says how many rows to make at once.
    """

    def __init__(
        self,
        backend: Backend,
        emit: Callable[[Row | Rows], None],
        tell: Callable[[Note], None],
        models: Sequence[torch.nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
        elements: Sequence[ElementSpec] = (),
        sampling: bool = True,
        abandon: Callable[[], None] = lambda: None,
        beside: Callable[[], float] = lambda: 0.0,
        budget: Budget | None = None,
        together: Callable[[], int] = lambda: 1,
    ) -> None:
        self.abandon = abandon
        self._log = Log()
        self._losses = Losses(self._log)
        self.guard = Guard(self._report)
        self._backend, self._tell = backend, tell
        self._elements = Elements(elements, self._refuse_element)
        self._sampling = sampling
        self._registry = Registry(models, optimizers)
        self._lanes = Lanes()
        self._turns = Turns(self.guard, self._registry.roster, len(self._elements), emit, tell, beside, budget, together)
        self._num_backwards_heard = 0
        self._touched = False  # whether any backward has reached a parameter of any optimizer
        self._leaves: list[Leaf] = []  # of the backward that is running, while nothing has been touched
        self._lock = threading.RLock()
        self._on: dict[str, Callable[..., None]] = {}  # the methods that were called so far

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
        return self._turns.num_rows + sum(bool(lane.iteration.steps) for lane in self._lanes.all())

    # What the hub calls -------------------------------------------------------------------------------------------------

    def hear(self, part: str, *args: object) -> None:
        """One call from a patch. Nothing that goes wrong in here comes out."""
        began = time.perf_counter()
        on = self._on.get(part) or self._on.setdefault(part, getattr(self, f"on_{part}"))
        with self._lock:
            lane = self._lanes.here()
            lane.now_s = began
            if not self.guard.failures or not self.guard.leaves_out(part):
                try:
                    on(lane, *args)
                except Exception as error:
                    self.guard.failed(part, error)
            lane.iteration.overhead_s += time.perf_counter() - began

    def wants(self, _: str, /) -> bool:
        """Whether it listens to this call at all: it does to every one."""
        return True

    def on_backward_begins(self, lane: Lane, tensors: Any) -> None:
        """The outermost backward begins: a new iteration, if the one before has stepped."""
        self._num_backwards_heard += 1
        registry = self._registry
        if not self._touched:
            self._step_by_hand(lane)
        if lane.iteration.steps and not self._is_stepping(lane):
            self._turns.turn(lane)
        listed: tuple[Any, ...] = tensors if isinstance(tensors, tuple) else (tensors,)  # pyright: ignore[reportUnknownVariableType]
        if self._num_backwards_heard == 1 and registry.all_of_the_process:
            registry.discover()
        tops = [t.grad_fn if isinstance(t, torch.Tensor) else t.node for t in listed]
        if not self._touched or registry.roster.wants_order():
            self._leaves = leaves_in_order(tops)
            if registry.windows:
                registry.take_in(self._leaves)
            registry.roster.order(self._leaves)
        lane.loss = self._log.scalar(listed[0] if len(listed) == 1 else total_of(listed))
        lane.heard = self._log.heard(lane, EventKind.BACKWARD, value=lane.loss, scale=lane.loss_scale)
        windows, extras = self._of(lane), self._turns.thinning.extras
        for window in windows:
            window.clearing.backward_begins()
            if window.apart.several and self._sampling and extras and not window.stepping:
                self.guard.call("pairs", window.apart.backward_begins, window.held)
        self.guard.call("graph", self._losses.look, lane, lane.heard, listed, tops, windows, extras)

    def on_backward_ends(self, lane: Lane) -> None:
        """Its gradients are in. Under a closure this is the moment to read them."""
        loss, lane.loss = lane.loss, None
        scale, lane.loss_scale = lane.loss_scale, None
        leaves, self._leaves = self._leaves, []
        heard, lane.heard = lane.heard, None
        if loss is None:
            return
        for window in self._of(lane):
            if not window.clearing.backward_ends():
                continue
            self._touched = True
            if heard is not None:
                heard.touched |= window.bit
                if not window.stepping:
                    window.apart.backward_heard(heard.site, heard.flags & SHARED != 0)
                    if window.apart.taking:
                        self.guard.call("pairs", window.apart.backward_ends)
            if window.last_operation < lane.last_operation:
                window.last_operation = lane.last_operation
            if window.ready is None or not window.stepping:  # a closure may evaluate again: the first time counts
                window.backward_ended(loss, scale)
                if window.stepping or window.eager:
                    self._read(lane, window)
        if not self._touched and self._registry.all_of_the_process and leaves:
            self._registry.by_hand.backward_ended([leaf.tensor for leaf in leaves])
            if self._registry.by_hand.held():
                window = self._registry.without_optimizer()
                window.backward_ended(loss, scale)
                self._read(lane, window)

    def on_clip_begins(self, lane: Lane, parameters: list[Any]) -> None:
        """Read before the clip: one NaN in it would make every gradient NaN."""
        ids = frozenset(id(p) for p in parameters)
        concerned = self._registry.holding(ids)
        flags, scales = EventFlag.NONE, [w.grad_scale for w in concerned if w.grad_scale is not None]
        if all(getattr(p, "grad", None) is None for p in parameters):
            flags = EventFlag.EMPTY
        elif concerned and all(w.clearing.used() for w in concerned):
            flags = EventFlag.USED
        lane.clipping = Clipping(ids, flags, scales[0] if scales else None)
        for window in concerned:
            if window.ready is None and not flags:
                self._read(lane, window)
                if window.ready is not None:
                    lane.clipping.readings.append(window.ready)

    def on_clip_ends(self, lane: Lane, kind: int, limit: object, total: object) -> None:
        """Note the norm it found and its limit."""
        norm, bound = self._log.scalar(total), self._log.scalar(limit)
        clipping, lane.clipping = lane.clipping, Clipping()
        ids = clipping.ids
        concerned = self._registry.holding(ids)
        for window in () if clipping.flags else concerned:
            window.clips.append(Clip(columns_of(ids, window, self._registry.roster), norm, bound, kind == NORM))
            window.clearing.known()
        index = concerned[0].index if len(concerned) == 1 else -1
        heard = self._log.heard(lane, EventKind.CLIP, index, value=norm, limit=bound, detail=kind, scale=clipping.scale)
        heard.flags, heard.touched = int(clipping.flags), sum(w.bit for w in concerned)

    def on_zero_grad_ends(self, lane: Lane, owner: Any) -> None:
        """Gradients were cleared by an optimizer or a module."""
        if isinstance(owner, torch.optim.Optimizer):
            window = self._registry.window(owner)
            cleared = [] if window is None else [window]
            detail = BY_OPTIMIZER
        else:
            ids = {id(p) for p in owner.parameters()}
            cleared = [w for w in self._registry if (held := w.held()) and all(id(p) in ids for p in held)]
            detail = BY_MODULE
        flags = 0
        if all(w.clearing.empty() for w in cleared):
            flags = EMPTY
        elif all(w.clearing.used() for w in cleared):
            flags = USED
        for window in cleared:
            window.lane = lane
            window.cleared()
        if cleared or (detail == BY_MODULE and self._registry.all_of_the_process):
            heard = self._log.heard(lane, EventKind.ZERO_GRAD, cleared[0].index if len(cleared) == 1 else -1, detail=detail)
            heard.flags, heard.touched = flags, sum([w.bit for w in cleared])

    def on_step_begins(self, lane: Lane, optimizer: Any, closure: bool) -> None:
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
            self._read(lane, window)
        elif not closure and (flags is StepFlag.CHANGED or not all(clip.by_norm for clip in window.clips)):
            applied = self._reading(lane, window, sample=False)
        self._step(lane, window, optimizer, flags, applied, closure)
        if self._sampling and self._turns.thinning.extras:
            num_wanted = window.probe.num_wanted(window.num_parameters or len(window.held()))
            if num_wanted:
                self.guard.call("probe", window.probe.step_begins, window.held(), closure, num_wanted)

    def on_step_ends(self, lane: Lane, optimizer: Any) -> None:
        """The step is done: its window is used up."""
        window = self._registry.known(optimizer)
        if window is None or not window.stepping:
            return
        if window.steps_within:
            window.steps_within -= 1
            return
        if window.ready is None:  # a closure that did not call backward
            self._read(lane, window)
        probed = self._probed(window, optimizer) if window.probe.is_under_way else None
        for step in lane.iteration.steps:
            if step.optimizer == window.index:
                step.probed = probed
                step.reading = window.ready
                step.num_backwards = max(step.num_backwards, window.num_backwards)
        if self._sampling and window.apart.is_of_several:
            compared = self.guard.call("pairs", window.apart.step_ends, self._registry.roster.column, window.loss_scale)
            if compared is not None:
                lane.iteration.compared.append(compared.told_apart(self.call_sites.numbered))
        window.step_ended()

    def on_compared(self, lane: Lane, labels: Sequence[str], parameters: Sequence[torch.Tensor], products: Any, reached: Any) -> None:
        """The script compared losses that it names: inner products of their gradients  # (L, L, P), and which reaches which  # (L, P)."""
        for window in self._registry:
            self._registry.learn(window)  # before the first step nothing was read, so no parameter has a column
        known = [i for i, p in enumerate(parameters) if p in self._registry.roster]
        columns = np.array([self._registry.roster.column(parameters[i]) for i in known], np.int64)
        sites = tuple(self.call_sites.labelled(label) for label in labels)
        lane.iteration.compared.append(Compared(sites, columns, products[..., known], reached[..., known]))

    def on_scaled(self, lane: Lane, scaler: Any) -> None:
        """The next backward is of a loss that was multiplied by the scale."""
        if scaler.is_enabled():
            lane.loss_scale = self._log.scalar(scaler._scale)

    def on_unscale_ends(self, lane: Lane, scaler: Any, optimizer: Any) -> None:
        """The scale has been divided out: these are the ready gradients."""
        window = self._registry.window(optimizer)
        if window is None or not scaler.is_enabled():
            return
        window.grad_scale = None
        window.clearing.known()
        self._log.heard(lane, EventKind.UNSCALE, window.index, value=self._log.scalar(scaler._scale))
        if window.ready is None:
            self._read(lane, window)

    def on_scaler_step_begins(self, _: Lane, optimizer: Any) -> None:
        """Remember how many steps were made, to see whether this one is left out."""
        window = self._registry.window(optimizer)
        if window is not None:
            window.steps_before_scaler = window.num_steps

    def on_scaler_step_ends(self, lane: Lane, scaler: Any, optimizer: Any) -> None:
        """Record a step that the scaler left out, with the gradients that caused it."""
        window = self._registry.known(optimizer)
        if window is None or not scaler.is_enabled() or window.num_steps != window.steps_before_scaler:
            return
        if lane.iteration.has_stepped(window.index):
            self._turns.turn(lane)
        self._step(lane, window, optimizer, StepFlag.SKIPPED, None)
        window.restart()

    def on_scaler_updated(self, lane: Lane, scaler: Any) -> None:
        """The scale may have changed."""
        if scaler.is_enabled():
            self._log.heard(lane, EventKind.SCALER_UPDATE, value=self._log.scalar(scaler._scale))

    def on_weighted(self, lane: Lane, scale: Scalar) -> None:
        """The next backward is of a loss that was multiplied by its weight; `scale` will be the total weight, when that is known."""
        lane.loss_scale = scale

    def on_normalised(self, _: Lane, parameters: list[Any], scale: Scalar | None) -> None:
        """The gradients of a window were divided by the total weight, over all processes: these are the ready ones, but for `scale`."""
        for window in self._registry.holding(frozenset(id(p) for p in parameters)):
            window.clearing.backward_ends()  # a process without a micro-batch has them from the others
            window.clearing.known()
            window.grad_scale = scale

    # What the owner calls -----------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> None:
        """From here on the iterations belong to this epoch."""
        self._turns.epoch = number

    def finish(self) -> None:
        """Hand on the last iterations, and say what no step has used."""
        with self._lock:
            self.guard.call("step_by_hand", self._step_by_hand, self._lanes.here(), True)
            left = max((w for w in self._registry if not w.stepping), key=lambda w: len(w.losses), default=None)
            for lane in self._lanes.all():
                if lane.iteration.steps:
                    self.guard.call("turn", self._turns.turn, lane)
            self.flush()
            if not self._turns.num_rows:
                self._tell(Note("no_step", -1, self._why_no_step()))
            elif left is not None and left.losses:
                count = len(left.losses)
                message = say("{count} backwards after the last step were never used by one", count=count)
                self._tell(Note("tail", self._turns.num_rows, message, count, left.index, self._log.last_backward(self._lanes.all())))
            self._registry.clear()

    def flush(self) -> None:
        """Hand on the iterations that are over, waiting for a device where that must be."""
        with self._lock:
            self._turns.flush()

    def so_far(self) -> Row | None:
        """The iteration in the making of this thread as a row, numbered as it will be; `None` before its first step."""
        with self._lock:
            return self._turns.so_far(self._lanes.here())

    def gradients(self) -> dict[str, torch.Tensor]:
        """The gradients as they are now, by the names of their parameters."""
        with self._lock:
            roster = self._registry.roster
            held = [p for window in self._registry for p in window.held() if p in roster and p.grad is not None]
            return {roster.parameters[roster.column(p)].name: p.grad for p in held if p.grad is not None}

    def norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float | None]:
        """The norms of these gradients as the clip that is running has just read them, still scaled; `None` where it has not."""
        with self._lock:
            roster, norms = self._registry.roster, dict[int, float]()
            for reading in self._lanes.here().clipping.readings:
                reading.settle()
                measured = ~np.isnan(reading.values["nonfinite"])
                norms.update(zip(reading.columns[measured].tolist(), reading.values["grad_norm"][measured].tolist(), strict=True))
            return [norms.get(roster.column(p)) if p in roster else None for p in parameters]

    # How it is done -----------------------------------------------------------------------------------------------------

    def _of(self, lane: Lane) -> list[Window]:
        """The windows that a backward of this thread may concern: those of no other one."""
        return [w for w in self._registry.windows if w.lane is None or w.lane is lane]

    def _is_stepping(self, lane: Lane) -> bool:
        """Whether the thread is inside of a step."""
        return any(window.stepping and window.lane is lane for window in self._registry.windows)

    def _why_no_step(self) -> Message:
        if self._num_backwards_heard:
            return say("no optimizer step happened: {count} backwards were heard and no step", count=self._num_backwards_heard)
        return say("no optimizer step happened: neither a backward nor a step was heard")

    def _read(self, lane: Lane, window: Window) -> None:
        """Read the ready gradients of a window."""
        sample = self._sampling and window.num_steps % self._turns.thinning.sample_every == 0
        window.ready = self._reading(lane, window, sample, full=window.num_steps % self._turns.thinning.full_every == 0)

    def _reading(self, lane: Lane, window: Window, sample: bool, full: bool = True) -> Reading:
        roster, held = self._registry.roster, window.held()
        planned = known_plan(window, roster, held) if window.clearing.parameters else None
        if planned is None:
            self._registry.learn(window)
            planned = plan(window, roster, held)
        window.num_parameters = len(held)
        running = [] if lane.loss is None or any(loss is lane.loss for loss in window.losses) else [lane.loss]
        if running and window.loss_scale is None:
            window.grad_scale = window.loss_scale = lane.loss_scale
        waiting = self._log.take_waiting()
        return read(window, planned, held, roster, self._backend, self._elements, waiting, running, sample, full)

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

    def _step_by_hand(self, lane: Lane, at_the_end: bool = False) -> None:
        """The script has changed weights since the last backward, and no optimizer did: that was a step."""
        by_hand = self._registry.by_hand
        if self._touched or not by_hand.held_any():
            return
        window = self._registry.without_optimizer()
        if not by_hand.stepped(at_the_end=at_the_end and window.num_steps > 0):
            return
        number, ready = window.num_steps, window.ready
        step = Stepped(window.index, number, Scalar(None), window.num_backwards, StepFlag.BY_HAND, NO_COLUMNS, reading=ready)
        lane.iteration.steps.append(step)
        window.step_ended()
        look_at(window)

    def _probed(self, window: Window, optimizer: Any) -> Probed | None:
        """What the step has changed of the weights that were copied before it; on a device the numbers come with the next transfer."""
        left_out = getattr(optimizer, "found_inf", None)  # a fused optimizer is stepped even where the scaler found infinities
        probed = self.guard.call("probe", window.probe.step_ends, self._registry.roster, left_out)
        if probed is not None and probed.waiting:
            self._log.wait_for(scalar for _, _, scalar in probed.waiting)
        return probed

    def _report(self, part: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        message = say("a part of seismograd failed and was left out: {part}: {error}", part=part, error=text)
        self._tell(Note("failure", self._turns.num_rows, message))

    def _refuse_element(self, error: SeismogradError) -> None:
        self._tell(Note("element", self._turns.num_rows, error.message))
