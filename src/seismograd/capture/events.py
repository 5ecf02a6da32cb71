"""The intercepted calls, and the hub that dispatches each of them to the listeners.

An event is a method of `Listener`: the type checker compares what a hook reports with what a
listener handles.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import is_grad_enabled
from torch._C import DisableTorchFunction, _len_torch_dispatch_stack, _set_grad_enabled  # pyright: ignore
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore

from seismograd.capture.hooks.replace_attribute import Undo
from seismograd.errors import TrainingHalted
from seismograd.exception_origin import let_go, raised_by_user
from seismograd.tensors.device_scalars import Scalar

EventName = Literal[
    "backward_begins",
    "backward_ends",
    "compared",
    "clip_begins",
    "clip_ends",
    "zero_grad_ends",
    "step_begins",
    "step_ends",
    "scaler_step_begins",
    "scaler_step_ends",
    "scaled",
    "unscale_ends",
    "scaler_updated",
    "weighted",
    "normalised",
    "stage_scaled",
    "schedule_made",
    "scheduled",
    "epoch_begins",
    "state_loads",
    "collective_ends",
    "drawn",
]


class Listener:
    """A session, or an observer that runs beside one. It overrides the events that it handles.

    No failure of ours may escape from an event, only a requested `TrainingHalted`.

    While `wakes` is a function, it is asked before each event, and the listener hears of it only
    where that returns something true: no call of ours where it is one in C.
    """

    wakes: Callable[[], object] | None = None

    # Reports about events -------------------------------------------------------------------------

    def failed(self, event: EventName, error: BaseException) -> None:
        """Note that an error of ours escaped from a listener to this event, or occurred before
        it.
        """

    def broken_off(self, event: EventName, *args: object) -> None:
        """Note that the event was not handled to its end, because an exception of the program's is
        passing through it.
        """

    def abandon(self) -> None:
        """Leave everything to the parent: this is a forked child."""

    def handler(self, event: EventName) -> Callable[..., None]:
        """Return what to call at this event: its method, or what that would only pass it on to. It
        is asked for once, when the listener is attached.
        """
        return getattr(self, event)

    def dispatcher(
        self,
        event: EventName,  # noqa: ARG002
        others: Sequence[tuple[Listener, Callable[..., None]]],  # noqa: ARG002
        keeps: Callable[[EventName, tuple[object, ...], BaseException], bool],  # noqa: ARG002
    ) -> Callable[..., None] | None:
        """Return what does all that the hub's own dispatcher does where this listener comes first
        and then these others, each with what to call, in fewer calls; `None` to leave it to the
        hub. `keeps` says whether an exception is ours.
        """
        return None

    def norms_just_read(
        self,
        parameters: Sequence[torch.Tensor],  # noqa: ARG002
    ) -> list[float | None] | None:
        """Return the norms of these parameters' gradients as they were read for the running clip,
        still scaled: `None` for each that was not, or in place of all of them.
        """
        return None

    def wants_samples(self) -> bool:
        """Return whether to report samples of distributions."""
        return False

    # The events -----------------------------------------------------------------------------------

    def backward_begins(self, tensors: Any) -> None:
        """A backward of these losses (a tensor, or a tuple of tensors or edges) begins."""

    def backward_ends(self) -> None:
        """That backward has ended, or raised."""

    def compared(
        self, labels: Sequence[str], parameters: Sequence[torch.Tensor], products: Any, reached: Any
    ) -> None:
        """The script compared losses that it names: inner products of their gradients  # (L, L, P),
        and which loss reaches which parameter  # (L, P).
        """

    def clip_begins(self, parameters: list[Any]) -> None:
        """The gradients of these parameters are about to be clipped."""

    def clip_ends(self, kind: int, limit: object, total: object, is_l2: bool = True) -> None:
        """That clip is done; `total` is the norm that it found, of which kind `is_l2` says."""

    def zero_grad_ends(self, owner: Any) -> None:
        """This optimizer or module has cleared its gradients."""

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """The optimizer is about to step; `compiled`: within a compiled function."""

    def step_ends(self, optimizer: Any) -> None:
        """The optimizer has stepped."""

    def scaler_step_begins(self, optimizer: Any) -> None:
        """A `GradScaler` is about to step the optimizer, or to leave the step out."""

    def scaler_step_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scaler has stepped the optimizer, or left the step out."""

    def scaled(self, scaler: Any) -> None:
        """The next backward is of a loss that the scaler has multiplied."""

    def unscale_ends(self, scaler: Any, optimizer: Any) -> None:
        """The scale has been divided out of the optimizer's gradients."""

    def scaler_updated(self, scaler: Any) -> None:
        """The scaler may have another scale now."""

    def weighted(self, scale: Scalar) -> None:
        """The next backward is of a loss multiplied by its weight; `scale` will be the total."""

    def normalised(self, parameters: list[Any], scale: Scalar | None) -> None:
        """These gradients were divided by the total weight; `scale` is left in them."""

    def stage_scaled(self, parameters: list[Any], divisor: float) -> None:
        """The schedule of a pipeline has divided these gradients by its number of micro-batches."""

    def schedule_made(self, scheduler: Any) -> None:
        """The script has created a learning rate scheduler, which has set its first rate."""

    def scheduled(self, scheduler: Any, metric: object) -> None:
        """The script has stepped this learning rate scheduler, with this metric."""

    def epoch_begins(self, loader: Any) -> None:
        """The script begins to iterate over this data loader."""

    def state_loads(self, owner: Any, state: object) -> None:
        """This module or optimizer is about to load a saved state."""

    def collective_ends(
        self, name: str, tensors: list[torch.Tensor], numel: int, in_backward: bool
    ) -> None:
        """This function of `torch.distributed` was called with these tensors, of `numel` scalars;
        asynchronously, perhaps.
        """

    def drawn(self, distribution: Any, value: object) -> None:
        """The script has drawn this sample, without a gradient, while gradients are enabled."""


class EventHub:
    """Holds the open sessions and dispatches every event to each of them, guarded.

    Patching affects the whole process. The patches are installed with the first listener and
    removed with the last, so sessions may nest, overlap and end in any order.

    Args:
        patches: functions that patch torch to report to the hub and return their undo.
    """

    # An attribute for each event of `Listener`: it dispatches the event to all listeners that
    # override it.
    backward_begins: Callable[[Any], None]
    backward_ends: Callable[[], None]
    compared: Callable[[Sequence[str], Sequence[torch.Tensor], Any, Any], None]
    clip_begins: Callable[[list[Any]], None]
    clip_ends: Callable[[int, object, object, bool], None]
    zero_grad_ends: Callable[[Any], None]
    step_begins: Callable[[Any, bool, bool], None]
    step_ends: Callable[[Any], None]
    scaler_step_begins: Callable[[Any], None]
    scaler_step_ends: Callable[[Any, Any], None]
    scaled: Callable[[Any], None]
    unscale_ends: Callable[[Any, Any], None]
    scaler_updated: Callable[[Any], None]
    weighted: Callable[[Scalar], None]
    normalised: Callable[[list[Any], Scalar | None], None]
    stage_scaled: Callable[[list[Any], float], None]
    schedule_made: Callable[[Any], None]
    scheduled: Callable[[Any, object], None]
    epoch_begins: Callable[[Any], None]
    state_loads: Callable[[Any, object], None]
    collective_ends: Callable[[str, list[torch.Tensor], int, bool], None]
    drawn: Callable[[Any, object], None]

    def __init__(self, patches: Sequence[Callable[[EventHub], Undo]] = ()) -> None:
        self._patches = tuple(patches)
        self._lock = threading.RLock()
        self._listeners: tuple[Listener, ...] = ()
        self._listen(())
        self._undo: list[Undo] = []
        # patches of what the program may import later, by the name of the module
        self.late: dict[str, Callable[[], Undo | None]] = {}
        # to call before a step of these optimizers (by id), which is a part of another one's step
        self.within: dict[int, Callable[[], None]] = {}
        # threads inside a scaler that divides: what it reduces are flags, and no norm of a clip
        self.unscaling: set[int] = set()
        os.register_at_fork(after_in_child=self._forked)

    def attach(self, listener: Listener) -> None:
        """Register the listener, patching torch if it is the first. A second call does nothing."""
        with self._lock:
            if listener in self._listeners:
                return
            if not self._listeners:
                try:
                    # All or none: with half of them the ends of calls would be missing.
                    for install in self._patches:
                        self._undo.append(install(self))
                except BaseException:
                    self._restore()
                    raise
            self._listen((*self._listeners, listener))

    def detach(self, listener: Listener) -> None:
        """Unregister the listener; the last one to go restores torch."""
        with self._lock:
            if listener not in self._listeners:
                return
            self._listen(tuple(each for each in self._listeners if each is not listener))
            if not self._listeners:
                self._restore()

    def install_late(self) -> None:
        """Install the patches of modules that the program has imported by now."""
        with self._lock:
            for module in [each for each in self.late if each in sys.modules]:
                undo = self.late[module]()
                if undo is not None:
                    self._undo.append(undo)
                    self.late.pop(module)

    @property
    def listening(self) -> bool:
        """Return whether any session is open in this process."""
        return bool(self._listeners)

    def wants_samples(self) -> bool:
        """Return whether any session wants to know of samples of distributions."""
        return any(listener.wants_samples() for listener in self._listeners)

    def norms_just_read(self, parameters: Sequence[torch.Tensor]) -> list[float] | None:
        """Return the norms that a session has just read for the running clip; `None` unless it has
        read all of them.
        """
        for listener in self._listeners:
            norms = listener.norms_just_read(parameters)
            if norms is not None and None not in norms:
                return [norm for norm in norms if norm is not None]
        return None

    def _dispatcher(
        self, event: EventName, takers: Sequence[tuple[Listener, Callable[..., None]]]
    ) -> Callable[..., None]:
        """Return what dispatches an event to these listeners, unseen by the program's modes and
        tensor subclasses: a closure, because a training comes through it five times a step.

        Any exception that escapes it is the program's own (see `exception_origin`), or requested
        (`TrainingHalted`).
        """
        if takers:
            own = takers[0][0].dispatcher(event, takers[1:], self._keeps)
            if own is not None:
                return own

        def dispatch(*args: object) -> None:
            grad = is_grad_enabled()
            try:
                with DisableTorchFunction():
                    try:
                        if _len_torch_dispatch_stack():
                            with _disable_current_modes():
                                for listener, take in takers:
                                    if listener.wakes is None or listener.wakes():
                                        take(*args)
                        else:
                            for listener, take in takers:
                                if listener.wakes is None or listener.wakes():
                                    take(*args)
                    except BaseException as error:
                        # An exception from outside may occur in the middle of an `__exit__` that
                        # restores a mode of torch.
                        let_go(error)
                        if is_grad_enabled() != grad:
                            _set_grad_enabled(grad)
                        raise
            except TrainingHalted:
                raise
            except BaseException as error:
                if not self._keeps(event, args, error):
                    raise

        return dispatch

    def _keeps(self, event: EventName, args: tuple[object, ...], error: BaseException) -> bool:
        """Return whether an exception during a call is ours and stays here; notifies the
        listeners.
        """
        try:
            ours = not raised_by_user(error)
            for listener in self._listeners:
                if ours:
                    listener.failed(event, error)
                else:
                    listener.broken_off(event, *args)
        except Exception as another:  # mostly because no memory or stack is left
            return isinstance(error, MemoryError | RecursionError) and not raised_by_user(another)
        return ours

    def _listen(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        for event in get_args(EventName):
            takers = [(each, each.handler(event)) for each in listeners if _overrides(each, event)]
            setattr(self, event, self._dispatcher(event, takers))

    def _restore(self) -> None:
        self.late.clear()
        while self._undo:
            self._undo.pop()()

    def _forked(self) -> None:
        """Abandon all sessions in a forked child (a DataLoader worker, mostly): it trains nothing
        of ours, so it must neither record nor touch the parent's files.
        """
        listeners = self._listeners
        self._listen(())
        self._lock = threading.RLock()
        for listener in listeners:
            listener.abandon()
        self._restore()


def _overrides(listener: Listener, event: EventName) -> bool:
    return getattr(type(listener), event) is not getattr(Listener, event)
