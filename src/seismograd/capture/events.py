"""From the patches to the sessions. Patching is by its nature one for the whole process, so this is
the one object that is, too.

The patches go in with the first session and come out with the last, so sessions may nest, overlap
and end in any order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from torch import is_grad_enabled
from torch._C import DisableTorchFunction, _len_torch_dispatch_stack, _set_grad_enabled  # pyright: ignore
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore

from seismograd.errors import TrainingHalted
from seismograd.exception_origin import let_go, raised_by_user

Undo = Callable[[], None]


class Listener(Protocol):
    """A session, or what listens beside one."""

    def wants(self, part: str, /) -> bool:
        """Whether it listens to this call at all; the answer stays the same."""
        ...

    def hear(self, part: str, *args: object) -> None:
        """A call that a patch has heard; nothing of ours may come out of it, but the
        `TrainingHalted` that was asked for.
        """
        ...

    def failed(self, part: str, error: BaseException) -> None:
        """Something of ours has come out of a `hear`, or failed before it."""
        ...

    def broken_off(self, part: str, *args: object) -> None:
        """The call was not heard to its end: an exception of the program's is on its way through
        it.
        """
        ...

    def abandon(self) -> None:
        """This is a forked child: leave everything to the parent."""
        ...


class EventHub:
    """Holds the open sessions and hands every call that a patch hears to each of them, guarded."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sessions: tuple[Listener, ...] = ()
        # who listens to a call, of those that were heard so far
        self._by_part: dict[str, tuple[Callable[..., None], ...]] = {}
        self._undo: list[Undo] = []
        self._owner = os.getpid()
        os.register_at_fork(after_in_child=self._forked)

    def attach(self, session: Listener) -> None:
        """Let the session hear, patching torch if it is the first."""
        from seismograd.capture.hooks.patches import PATCHES

        with self._lock:
            self._owner = os.getpid()
            if not self._sessions:
                try:
                    for install in PATCHES:
                        self._undo.append(install(self))
                except BaseException:
                    self._restore()
                    raise
            self._take((*self._sessions, session))

    def detach(self, session: Listener) -> None:
        """Let the session hear no more; the last one to go puts torch back as it was."""
        with self._lock:
            if session not in self._sessions:
                return
            self._take(tuple(s for s in self._sessions if s is not session))
            if not self._sessions:
                self._restore()

    def tell(self, part: str, *args: object) -> None:
        """Let everybody hear who listens to this call, unseen by modes and tensor subclasses of the
        program's.

        What comes out is the program's own (see `whose`), or asked for (`TrainingHalted`).
        """
        grad = is_grad_enabled()
        try:
            by_part = self._by_part
            listeners = by_part.get(part)
            if listeners is None:
                listeners = by_part[part] = tuple(
                    session.hear for session in self._sessions if session.wants(part)
                )
            with DisableTorchFunction():
                try:
                    if _len_torch_dispatch_stack():
                        with _disable_current_modes():
                            for hear in listeners:
                                hear(part, *args)
                    else:
                        for hear in listeners:
                            hear(part, *args)
                except BaseException as error:
                    # What comes from outside may come in the middle of an `__exit__` that puts a
                    # mode of torch back.
                    let_go(error)
                    if is_grad_enabled() != grad:
                        _set_grad_enabled(grad)
                    raise
        except TrainingHalted:
            raise
        except BaseException as error:
            if not self._keeps(part, args, error):
                raise

    def _keeps(self, part: str, args: tuple[object, ...], error: BaseException) -> bool:
        """Whether what came while a call was heard stays here, as it is ours; tells the
        sessions.
        """
        try:
            ours = not raised_by_user(error)
            for session in self._sessions:
                if ours:
                    session.failed(part, error)
                else:
                    session.broken_off(part, *args)
        except Exception as another:  # no memory or no stack is left, mostly
            return isinstance(error, MemoryError | RecursionError) and not raised_by_user(another)
        return ours

    @property
    def sessions(self) -> tuple[Listener, ...]:
        """What is open in this process."""
        return self._sessions

    @property
    def listening(self) -> bool:
        """Whether any session is open in this process."""
        return bool(self._sessions)

    def _take(self, sessions: tuple[Listener, ...]) -> None:
        self._sessions = sessions
        self._by_part = {}

    def _restore(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _forked(self) -> None:
        """A forked child (a DataLoader worker, mostly) trains nothing of ours: it must neither
        record nor touch the parent's files.
        """
        sessions = self._sessions
        self._take(())
        self._lock = threading.RLock()
        for session in sessions:
            session.abandon()
        self._restore()


HUB = EventHub()
