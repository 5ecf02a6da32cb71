"""Handle the intercepted calls one at a time, each guarded and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from threading import RLock, get_ident
from time import perf_counter
from typing import Any, TypeVarTuple

from torch import is_grad_enabled
from torch._C import DisableTorchFunction, _len_torch_dispatch_stack, _set_grad_enabled  # pyright: ignore
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore

from seismograd.capture.events import EventName, Listener
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.thread_state import ThreadState, ThreadStates
from seismograd.errors import TrainingHalted
from seismograd.exception_origin import let_go, raised_by_user

Ts = TypeVarTuple("Ts")
Handlers = Sequence[Callable[..., None]]
Short = Callable[..., bool] | None


class EventVisits:
    """What comes around the handlers of every event: the lock, the state of the thread, the guard,
    and the time that all of it takes.

    Args:
        guard: keeps our failures here.
        stepped: called after the first step.
        lock: one that the thread which has it may take again.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        stepped: Callable[[], None],
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        # One lock for all threads, since they share optimizers and columns, and a call takes
        # microseconds. Reentrant, because a signal handler of the program's may train in the middle
        # of a call.
        self.lock = RLock() if lock is None else lock
        self.thread_states = ThreadStates()
        self._guard, self._stepped = guard, stepped
        self._has_stepped = False
        self.num_full = 0  # visits of the full way

    def visit(self, event: EventName, short: Short, handlers: Handlers, *args: object) -> None:
        """Handle one event, the short way where that is possible. No exception escapes, except
        those of the program's own.
        """
        with self.lock:
            # Without the wait for the lock: where several threads train, another one's call holds
            # it, which counts itself. So the times of all threads never exceed the run's.
            began = perf_counter()
            thread_state = self.thread_states.here()
            thread_state.now_s = began
            try:
                # With a failure, each part is asked whether it is still called.
                if short is None or self._guard.failures or not short(thread_state, *args):
                    self._full(event, handlers, thread_state, *args)
            # Only `Exception`: KeyboardInterrupt and its like are the program's, and pass.
            except Exception as error:
                if raised_by_user(error):
                    raise
                self._guard.failed(event, error)
            if not self._has_stepped and thread_state.iteration.steps:
                self._tell()
            # Around everything: the budget and the user's report go by this.
            thread_state.iteration.overhead_s += perf_counter() - began

    def dispatcher(
        self,
        event: EventName,
        short: Short,
        handlers: Handlers,
        others: Sequence[tuple[Listener, Callable[..., None]]],
        keeps: Callable[[EventName, tuple[object, ...], BaseException], bool],
    ) -> Callable[..., None]:
        """Return one function for what `capture.events.EventHub._dispatcher` does around `visit`,
        and for `visit` itself: a training comes through it five times a step.
        """
        lock, guard, states, full = self.lock, self._guard, self.thread_states, self._full
        by_thread, visit = states.by_thread, self.visit

        def dispatch(*args: Any) -> None:
            grad = is_grad_enabled()
            try:
                with DisableTorchFunction():
                    try:
                        if _len_torch_dispatch_stack():
                            with _disable_current_modes():
                                visit(event, short, handlers, *args)
                                for listener, take in others:
                                    if listener.wakes is None or listener.wakes():
                                        take(*args)
                            return
                        with lock:
                            began = perf_counter()
                            thread_state = by_thread.get(get_ident())
                            if thread_state is None:
                                thread_state = states.here()
                            thread_state.now_s = began
                            try:
                                if (
                                    short is None
                                    or guard.failures
                                    or not short(thread_state, *args)
                                ):
                                    full(event, handlers, thread_state, *args)
                            except Exception as error:
                                if raised_by_user(error):
                                    raise
                                guard.failed(event, error)
                            if not self._has_stepped and thread_state.iteration.steps:
                                self._tell()
                            thread_state.iteration.overhead_s += perf_counter() - began
                        for listener, take in others:
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
                if not keeps(event, args, error):
                    raise

        return dispatch

    def _full(
        self, event: EventName, handlers: Handlers, thread_state: ThreadState, *args: object
    ) -> None:
        """Call all the handlers, unless they have failed too often."""
        self.num_full += 1
        if not self._guard.leaves_out(event):
            for handle in handlers:
                handle(thread_state, *args)

    def _tell(self) -> None:
        """Say that a step was made: from here on an iteration may wait with no call to come that
        would hand it on, so somebody has to look. A process that never trains needs no thread for
        that.
        """
        self._has_stepped = True
        self._guard.call("stepped", self._stepped)
