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
from seismograd.listen import discovery
from seismograd.listen.callsite import CallSites
from seismograd.listen.guard import Guard
from seismograd.listen.iteration import Heard, Iteration, Stepped
from seismograd.listen.naming import unique
from seismograd.listen.reading import Elements, look_at, plan, read
from seismograd.listen.roster import Roster
from seismograd.listen.scalars import Scalar
from seismograd.listen.windows import Window
from seismograd.measure.backend import Backend
from seismograd.schema import SAMPLE_EVERY, EventKind, Note, Optimizer, Row, StepFlag

MAX_EVENTS_WITHOUT_STEP = 4096
MAX_SHARE_OF_LOOKING = 0.002
BY_OPTIMIZER, BY_MODULE = 1, 2


class Session:
    """Serves `watch` (some models and optimizers) and `run` (all that the script makes).

    `emit(row)` takes each finished iteration, `tell(note)` what has words; both are called on the training thread and must be quick.
    """

    def __init__(
        self,
        backend: Backend,
        emit: Callable[[Row], None],
        tell: Callable[[Note], None],
        models: Sequence[torch.nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
        elements: Sequence[ElementSpec] = (),
        sampling: bool = True,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self.abandon = abandon
        self.epoch_number = -1
        self.optimizers: list[Optimizer] = []
        self.call_sites = CallSites()
        self.guard = Guard(self._report)
        self._backend, self._emit, self._tell = backend, emit, tell
        self._elements = Elements(elements, self._refuse_element)
        self._sampling = sampling
        self._given = bool(models or optimizers)
        self._roster = Roster(models)
        self._windows: dict[int, Window] = {}
        self._given_optimizers = {id(o) for o in optimizers}
        self._iteration = Iteration(0)
        self._num_rows = 0
        self._num_backwards_heard = 0
        self._loss: Scalar | None = None  # of the backward that is running
        self._loss_scale: Scalar | None = None  # told by GradScaler.scale, for the next backward
        self._waiting: list[Scalar] = []
        self._clipped: set[int] = set()
        self._looking_s = 0.0
        self._lock = threading.RLock()
        self._start_s = time.perf_counter()
        for optimizer in optimizers:
            self._open_window(optimizer, discovery.Found())

    # What the hub calls -------------------------------------------------------------------------------------------------

    def hear(self, part: str, *args: object) -> None:
        """One call from a patch. Nothing that goes wrong in here comes out."""
        began = time.perf_counter()
        with self._lock:
            self.guard.call(part, getattr(self, f"on_{part}"), *args)
            self._iteration.overhead_s += time.perf_counter() - began

    def on_backward_begins(self, tensors: Any) -> None:
        """The outermost backward begins: a new iteration, if the one before has stepped."""
        self._num_backwards_heard += 1
        if self._iteration.steps and not any(w.stepping for w in self._windows.values()):
            self._turn()
        listed: tuple[Any, ...] = tensors if isinstance(tensors, tuple) else (tensors,)  # pyright: ignore[reportUnknownVariableType]
        if self._num_backwards_heard == 1 and not self._given:
            self._discover()
        self._roster.read_graph([t.grad_fn if isinstance(t, torch.Tensor) else t.node for t in listed])
        self._loss = self._scalar(listed[0] if len(listed) == 1 else None)
        self._heard(EventKind.BACKWARD, value=self._loss, scale=self._loss_scale)
        for window in self._windows.values():
            window.clearing.backward_begins()

    def on_backward_ends(self) -> None:
        """Its gradients are in. Under a closure this is the moment to read them."""
        loss, self._loss = self._loss, None
        scale, self._loss_scale = self._loss_scale, None
        if loss is None:
            return
        for window in self._windows.values():
            reread = window.ready is None or not window.stepping
            if window.clearing.backward_ends() and reread:
                window.backward_ended(loss, scale)
                if window.stepping:
                    self._read(window)

    def on_clip_begins(self, parameters: list[Any]) -> None:
        """Read before the clip: one NaN in it would make every gradient NaN."""
        ids = {id(p) for p in parameters}
        for window in self._windows.values():
            if window.ready is None and any(id(p) in ids for p in window.held()):
                self._read(window)
        self._clipped = ids

    def on_clip_ends(self, kind: int, limit: object, total: object) -> None:
        """Note the norm it found and its limit."""
        norm, bound = self._scalar(total), self._scalar(limit)
        ids, self._clipped = self._clipped, set()
        concerned = [w for w in self._windows.values() if any(id(p) in ids for p in w.held())]
        for window in concerned:
            window.clip = (norm, bound)
        index = concerned[0].index if len(concerned) == 1 else -1
        self._heard(EventKind.CLIP, index, value=norm, limit=bound, detail=kind)

    def on_zero_grad_ends(self, owner: Any) -> None:
        """Gradients were cleared by an optimizer or a module."""
        if isinstance(owner, torch.optim.Optimizer):
            window = self._window(owner)
            if window is not None:
                self._heard(EventKind.ZERO_GRAD, window.index, detail=BY_OPTIMIZER)
                window.cleared()
            return
        ids = {id(p) for p in owner.parameters()}
        cleared = [w for w in self._windows.values() if (held := w.held()) and all(id(p) in ids for p in held)]
        for window in cleared:
            window.cleared()
        if cleared or not self._given:
            self._heard(EventKind.ZERO_GRAD, cleared[0].index if len(cleared) == 1 else -1, detail=BY_MODULE)

    def on_step_begins(self, optimizer: Any, closure: bool) -> None:
        """An optimizer is about to consume its gradients."""
        window = self._window(optimizer)
        if window is None:
            return
        if self._iteration.has_stepped(window.index):
            self._turn()
        fused = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by the scale itself
        if isinstance(fused, torch.Tensor):
            window.grad_scale = window.loss_scale = self._scalar(fused)
        window.stepping = True
        flags = StepFlag.NO_BACKWARD if not closure and self._loss is None and window.clearing.stale() else StepFlag.NONE
        if window.ready is None and not closure:
            self._read(window)
        self._step(window, optimizer, flags)

    def on_step_ends(self, optimizer: Any) -> None:
        """The step is done: its window is used up."""
        window = self._windows.get(id(optimizer))
        if window is None or not window.stepping:
            return
        if window.ready is None:  # a closure that did not call backward
            self._read(window)
        for step in self._iteration.steps:
            if step.optimizer == window.index:
                step.reading = window.ready
                step.num_backwards = max(step.num_backwards, window.num_backwards)
        window.step_ended()

    def on_scaled(self, scaler: Any) -> None:
        """The next backward is of a loss that was multiplied by the scale."""
        if scaler.is_enabled():
            self._loss_scale = self._scalar(scaler._scale)

    def on_unscale_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scale has been divided out: these are the ready gradients."""
        window = self._window(optimizer)
        if window is None or not scaler.is_enabled():
            return
        window.grad_scale = None
        self._heard(EventKind.UNSCALE, window.index, value=self._scalar(scaler._scale))
        if window.ready is None:
            self._read(window)

    def on_scaler_step_begins(self, optimizer: Any) -> None:
        """Remember how many steps were made, to see whether this one is left out."""
        window = self._window(optimizer)
        if window is not None:
            window.steps_before_scaler = window.num_steps

    def on_scaler_step_ends(self, scaler: Any, optimizer: Any) -> None:
        """Record a step that the scaler left out, with the gradients that caused it."""
        window = self._windows.get(id(optimizer))
        if window is None or not scaler.is_enabled() or window.num_steps != window.steps_before_scaler:
            return
        if self._iteration.has_stepped(window.index):
            self._turn()
        self._step(window, optimizer, StepFlag.SKIPPED)
        window.restart()

    def on_scaler_updated(self, scaler: Any) -> None:
        """The scale may have changed."""
        if scaler.is_enabled():
            self._heard(EventKind.SCALER_UPDATE, value=self._scalar(scaler._scale))

    # What the owner calls -----------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> None:
        """From here on the iterations belong to this epoch."""
        self.epoch_number = number

    def finish(self) -> None:
        """Hand on the last iteration, and say what no step has used."""
        with self._lock:
            left = max((w.num_backwards for w in self._windows.values()), default=0)
            if self._iteration.steps:
                self.guard.call("turn", self._turn)
            if not self._num_rows:
                self._tell(Note("no_step", -1, self._why_no_step()))
            elif left:
                message = say("{count} backwards after the last step were never used by one", count=left)
                self._tell(Note("tail", self._iteration.number, message))
            self._windows.clear()

    # How it is done -----------------------------------------------------------------------------------------------------

    def _why_no_step(self) -> Message:
        if self._num_backwards_heard:
            return say("no optimizer step happened: {count} backwards were heard and no step", count=self._num_backwards_heard)
        return say("no optimizer step happened: neither a backward nor a step was heard")

    def _heard(
        self,
        kind: EventKind,
        optimizer: int = -1,
        value: Scalar | None = None,
        limit: Scalar | None = None,
        detail: int = 0,
        scale: Scalar | None = None,
    ) -> None:
        events = self._iteration.events
        heard = Heard(int(kind), time.perf_counter() - self._start_s, self.call_sites.here(), optimizer, detail=detail, scale=scale)
        heard.value = value or heard.value
        heard.limit = limit or heard.limit
        events.append(heard)
        if len(events) > MAX_EVENTS_WITHOUT_STEP and not self._iteration.steps:
            del events[: MAX_EVENTS_WITHOUT_STEP // 2]

    def _scalar(self, source: object) -> Scalar:
        scalar = Scalar(source)
        if scalar.tensor is not None:
            self._waiting = [*self._waiting[-MAX_EVENTS_WITHOUT_STEP:], scalar]
        return scalar

    def _window(self, optimizer: torch.optim.Optimizer) -> Window | None:
        """The window of an optimizer, opened when it is first heard of; `None` for one that is not watched."""
        window = self._windows.get(id(optimizer))
        if window is not None or (self._given and not self._concerns(optimizer)):
            return window
        self._discover([optimizer])
        return self._windows.get(id(optimizer))

    def _concerns(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether it was given, or updates a parameter of a model that was."""
        if id(optimizer) in self._given_optimizers:
            return True
        self._roster.learn([], discovery.Found())
        return any(p in self._roster for group in optimizer.param_groups for p in group["params"])

    def _discover(self, more: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Look for what the script has made, and give names to it."""
        around = self._look()
        for optimizer in (*more, *(() if self._given else around.optimizers)):
            if id(optimizer) not in self._windows and "param_groups" in vars(optimizer):
                self._open_window(optimizer, around)
        self._learn(around)

    def _look(self) -> discovery.Found:
        """Everywhere while that is cheap against the run so far: a script may make an optimizer in every step."""
        began = time.perf_counter()
        found = discovery.look(everywhere=self._looking_s < max(1.0, MAX_SHARE_OF_LOOKING * (began - self._start_s)))
        self._looking_s += time.perf_counter() - began
        return found

    def _open_window(self, optimizer: torch.optim.Optimizer, around: discovery.Found) -> None:
        index, key = len(self.optimizers), id(optimizer)
        name = unique([around.names.get(key) or type(optimizer).__name__], [o.name for o in self.optimizers])[0]
        self.optimizers.append(Optimizer(index, type(optimizer).__name__, name))
        window = self._windows[key] = Window(optimizer, index, name, lambda: self._close_window(key))
        look_at(window)

    def _close_window(self, key: int) -> None:
        self._windows.pop(key, None)

    def _learn(self, around: discovery.Found) -> None:
        pairs = [(w.index, w.name, o) for w in self._windows.values() if (o := w.optimizer()) is not None]
        self._roster.learn(pairs, around)

    def _read(self, window: Window) -> None:
        """Read the gradients of a window, learning its parameters first where any is new."""
        held = window.held()
        if any(p not in self._roster for p in held):
            self._learn(self._look())
        if len(window.clearing.parameters) == 0 and held:
            look_at(window)
        waiting, self._waiting = self._waiting, []
        sample = self._sampling and self._num_rows % SAMPLE_EVERY == 0
        running = [] if self._loss is None or any(loss is self._loss for loss in window.losses) else [self._loss]
        if running and window.loss_scale is None:
            window.grad_scale = window.loss_scale = self._loss_scale
        window.ready = read(window, self._roster, self._backend, self._elements, waiting, running, sample)

    def _step(self, window: Window, optimizer: torch.optim.Optimizer, flags: StepFlag) -> None:
        lr = self._scalar(optimizer.param_groups[0].get("lr") if optimizer.param_groups else None)
        self._heard(EventKind.STEP, window.index, value=lr)
        backwards = window.num_backwards + (self._loss is not None)
        carried = self._carried(window) if not flags else np.zeros(0, np.int64)
        number = window.num_steps
        self._iteration.steps.append(Stepped(window.index, number, lr, backwards, window.clip, flags, window.ready, carried))

    def _carried(self, window: Window) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The columns whose gradient holds what an earlier step had used; all of them when all that were looked at do."""
        marks = window.clearing.carried_over()
        if True not in marks:
            return np.zeros(0, np.int64)
        seen = [p for ref, mark in zip(window.clearing.parameters, marks, strict=True) if mark and (p := ref()) is not None]
        looked_at = [p for ref in window.clearing.parameters if (p := ref()) is not None and p.grad is not None]
        columns = plan(window, self._roster)[0].columns if len(seen) == len(looked_at) else [self._roster.column(p) for p in seen]
        return np.asarray(columns, np.int64)

    def _turn(self) -> None:
        """The iteration is over: hand it on and begin the next."""
        done, self._iteration = self._iteration, Iteration(self._iteration.number + 1)
        self._num_rows += 1
        self._emit(done.row(self._roster.parameters, len(self._elements), self.epoch_number))

    def _report(self, part: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        message = say("a part of seismograd failed and was left out: {part}: {error}", part=part, error=text)
        self._tell(Note("failure", self._iteration.number, message))

    def _refuse_element(self, error: SeismogradError) -> None:
        self._tell(Note("element", self._iteration.number, error.message))
