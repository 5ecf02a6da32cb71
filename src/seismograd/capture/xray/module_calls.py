"""Hear the calls of modules during a sampled step, and nothing at any other time."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import wraps
from typing import Any, Protocol, cast

import torch

from seismograd.capture.hooks.class_calls import UndoCall, replace_call
from seismograd.capture.hooks.replace_attribute import replace
from seismograd.exception_origin import raised_by_user

is_compiling = torch.compiler.is_compiling
is_in_backward = torch._C._current_graph_task_id  # pyright: ignore


class CallListener(Protocol):
    """Takes the calls of the modules that it follows."""

    def begins(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return an entry that the other methods get, with the arguments to call with as `args`;
        `None` for a call that is not looked at.
        """
        ...

    def left(self, entry: Any) -> None:
        """Note that the call is over, by an exception perhaps."""
        ...

    def ends(self, entry: Any, kwargs: dict[str, Any], result: Any) -> None:
        """Take the result."""
        ...

    def attends(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Take a call of `F.scaled_dot_product_attention`."""
        ...


class ModuleCalls:
    """Reports the calls of modules of some classes, and of attention as a function, while it is
    installed.
    """

    def __init__(self, listener: CallListener) -> None:
        self._listener = listener
        self._undo: list[UndoCall] = []

    def install(self, kinds: Iterable[type], attention: bool) -> None:
        """Begin to report the calls of modules of these classes."""
        for kind in dict.fromkeys(kinds):
            self._undo.append(self._install(kind))
        if attention:
            self._undo.append(self._install_attention())

    @property
    def is_installed(self) -> bool:
        """Return whether anything is still to be removed."""
        return bool(self._undo)

    def remove(self) -> None:
        """Restore the classes. What another program, or another part of this one, has patched since
        then stays until it is gone; until then our function passes everything on.
        """
        self._undo = [undo for undo in reversed(self._undo) if not undo()][::-1]

    def _install(self, kind: type) -> UndoCall:
        original: Any = kind.__call__
        listener = self._listener

        @wraps(original)
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if is_compiling():
                return original(self, *args, **kwargs)
            try:
                entry = listener.begins(self, args, kwargs)
            except Exception as error:
                if raised_by_user(error):
                    raise
                entry = None
            if entry is None:
                return original(self, *args, **kwargs)
            try:
                result = original(self, *entry.args, **kwargs)
            finally:
                listener.left(entry)
            try:
                listener.ends(entry, kwargs, result)
            except Exception as error:
                if raised_by_user(error):
                    raise
            return result

        return replace_call(kind, __call__)

    def _install_attention(self) -> UndoCall:
        owner: Any = torch.nn.functional
        original: Any = owner.scaled_dot_product_attention
        listener = self._listener

        def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if not is_compiling():
                try:
                    listener.attends(args, kwargs, result)
                except Exception as error:
                    if raised_by_user(error):
                        raise
            return result

        scaled_dot_product_attention.__doc__ = original.__doc__
        undo = replace(owner, "scaled_dot_product_attention", scaled_dot_product_attention)

        def restore() -> bool:
            undo()
            return True

        return restore


def runs_here(thread: int) -> bool:
    """Return whether a call belongs to the training of this thread: made by it, or by its
    backward.
    """
    return threading.get_ident() == thread or is_in_backward() != -1


def classes_of(modules: Iterable[Any]) -> list[type]:
    """Return the classes of modules that can be given a `__call__`."""
    found: dict[type, None] = {}
    for each in modules:
        kind: type = type(cast("object", each))
        if type(kind) is type and not issubclass(kind, torch.jit.ScriptModule):
            found[kind] = None
    return list(found)
