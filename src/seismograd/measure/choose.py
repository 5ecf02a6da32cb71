"""Which backend measures: the fastest that this installation has."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.measure.backend import Backend
from seismograd.measure.native.backend import Native
from seismograd.measure.native.library import load
from seismograd.measure.native.updates import Copies
from seismograd.measure.reference import Reference


def best_backend() -> Backend:
    """The kernel where it was built, which leaves to the reference what it cannot read; else the reference."""
    library = load()
    return Reference() if library is None else Native(library)


def best_copies() -> Copies | None:
    """What compares weights before and after a step where the kernel was built; else `updates` does."""
    library = load()
    return None if library is None else Copies(library)


def why_slow() -> Message | None:
    """What to tell the user, once, when gradients on the CPU are measured slowly; `None` when they are not."""
    if load() is not None:
        return None
    return say(
        "measuring with torch operations, which is slower: the C++ kernel was not built (a compiler and a new install would mend it)"
    )
