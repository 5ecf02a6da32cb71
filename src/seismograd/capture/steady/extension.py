"""The extension that makes the visits of a steady step in C (native/), where it was built."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

INTERFACE = 5  # `kInterface` of the extension


def _load() -> Any:
    """Return the extension; `None` where it was not built, or not for this."""
    try:
        extension: Any = importlib.import_module("seismograd.capture.steady._visits")
    except ImportError:
        return None
    return extension if getattr(extension, "INTERFACE", 0) == INTERFACE else None


_BUILT = _load()
_used = [_BUILT]


def make_lock() -> AbstractContextManager[object]:
    """Return a lock that the thread which has it may take again. That of the extension knows
    whether anybody has taken it since the last visit.
    """
    return threading.RLock() if _used[0] is None else _used[0].VisitLock()


def make_visits(lock: object, parts: dict[str, Any]) -> Any:
    """Return what makes the visits for these parts of a session; `None` where Python makes them."""
    if _used[0] is None or type(lock) is not _used[0].VisitLock:
        return None
    return _used[0].Visits({**parts, "lock": lock})


def has_extension() -> bool:
    """Return whether the extension was built."""
    return _BUILT is not None


@contextmanager
def without_extension() -> Generator[None]:
    """Sessions that are made inside have their visits made by Python."""
    _used[0] = None
    try:
        yield
    finally:
        _used[0] = _BUILT
