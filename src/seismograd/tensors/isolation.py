"""Isolate our calls from the training program's modes: torch's, and NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

# Nothing public leaves all modes of a user at once.
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore[reportPrivateUsage]

P = ParamSpec("P")
R = TypeVar("R")

_C = torch._C  # pyright: ignore[reportPrivateUsage]


class GuardsInPython(AbstractContextManager[None]):
    """What the extension's `Guards` does (guards.cpp), where it was not built: inside, no graph is
    recorded, nothing is cast by autocast, and no `__torch_function__` is called.

    An exception that a signal handler raises just when `__exit__` begins leaves them on: that is
    what the extension is for.
    """

    __slots__ = ("_autocast", "_function", "_gradients")

    def __enter__(self) -> None:
        # The outermost first: turning gradients off is itself a call that a mode can see.
        self._function = _C.DisableTorchFunction()
        self._autocast: Any = _C._DisableAutocast()  # pyright: ignore[reportPrivateUsage]
        self._gradients = torch.is_grad_enabled()
        try:
            self._function.__enter__()
            _C._set_grad_enabled(False)  # pyright: ignore[reportPrivateUsage]
            self._autocast.__enter__()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._autocast.__exit__(None, None, None)
        finally:
            try:
                _C._set_grad_enabled(self._gradients)  # pyright: ignore[reportPrivateUsage]
            finally:
                self._function.__exit__(None, None, None)


def _kind() -> type[AbstractContextManager[None]]:
    try:
        from seismograd.tensors import _guards  # pyright: ignore
    except (ImportError, AttributeError):  # not built, or a torch that names its guards otherwise
        return GuardsInPython
    return _guards.Guards  # pyright: ignore


Guards = _kind()
# of the thread, in NumPy 1 alone
_modes: Any = getattr(np, "geterrobj", None)
_put_back: Any = getattr(np, "seterrobj", None)


def in_own_context(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that sets `numpy.errstate`, or calls one of `numpy.linalg` that does: it
    runs in a copy of the caller's context variables, in which NumPy 2 keeps that mode.

    `errstate` is entered and left in lines of Python, so that what a signal handler raises between
    them would leave ours on in the program; a copy is left in one C call. NumPy 1 keeps the mode
    for the thread, and it is put back in one C call.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return copy_context().run(function, *args, **kwargs)

    @wraps(function)
    def call_and_put_back(*args: P.args, **kwargs: P.kwargs) -> R:
        before = [*_modes()]  # `errstate` changes the list in place
        try:
            return function(*args, **kwargs)
        finally:
            _put_back(before)

    return call if _modes is None else call_and_put_back


def without_user_modes() -> AbstractContextManager[None]:
    """Inside, no graph is recorded, nothing is cast by autocast, and no mode or tensor subclass of
    the user's intercepts a call.

    A default device is such a mode (a `TorchFunctionMode`), so factory functions inside must name
    their device, and their dtype.
    """
    if _C._len_torch_dispatch_stack() == 0:  # pyright: ignore[reportPrivateUsage]
        return Guards()
    return _without_dispatch_modes()


@contextmanager
def _without_dispatch_modes() -> Generator[None]:
    with Guards(), _disable_current_modes():
        yield
