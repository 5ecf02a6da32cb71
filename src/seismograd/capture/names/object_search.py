"""List the objects of some classes that the garbage collector tracks; once more without looking
through what was already there.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import weakref
from collections.abc import Iterator, Sequence
from itertools import compress, count

from seismograd.measure.native import tensor_reads

# Where what is new is in the two younger generations until they are collected: up to 3.13, and not
# without the GIL, whose collector has no generations.
HAS_GENERATIONS = sys.version_info < (3, 14) and not sysconfig.get_config_var("Py_GIL_DISABLED")

Kinds = tuple[type, ...]


class ObjectSearch:
    """Remembers, weakly, what the last search has found. As long as no collection has made young
    objects old since then, only the young ones are new, a hundredth of all.
    """

    def __init__(self) -> None:
        self._found: list[weakref.ref[object]] = []
        self._kinds: Kinds = ()  # that were searched for; none before a search has ended
        self._collections: Sequence[int] = ()  # that had made objects old by then

    def instances(self, kinds: Kinds) -> list[object]:
        """Return the objects of these kinds, the youngest first."""
        now = _collections()  # before the search: what comes in the middle of it is seen next time
        found: list[object] | None = None
        if HAS_GENERATIONS and self._kinds == kinds and self._collections == now:
            found = self._with_young(kinds)
            if _collections() != now:  # there was one in the middle
                found, now = None, _collections()
        if found is None:
            found = list(instances(gc.get_objects(), kinds))
        self._remember(found, kinds, now)
        return found

    def _with_young(self, kinds: Kinds) -> list[object]:
        """Return the young ones, and what was found before: all there are, in the same order."""
        # Two lists, neither of which is there when it is filled: it would hold itself for good.
        # What a collection in between has moved comes in both.
        found: dict[int, object] = {}
        for generation in (0, 1):
            young = gc.get_objects(generation=generation)
            found.update((id(thing), thing) for thing in instances(young, kinds))
            del young
        for reference in self._found:
            thing = reference()
            if thing is not None:
                found.setdefault(id(thing), thing)
        return list(found.values())

    def _remember(self, found: Sequence[object], kinds: Kinds, collections: Sequence[int]) -> None:
        self._kinds = ()  # in case an exception of the program's arrives in between
        try:
            self._found = list(map(weakref.ref, found))
        except TypeError:  # of a class that takes no references
            return
        self._collections, self._kinds = collections, kinds


def instances(things: Sequence[object], kinds: Kinds) -> Iterator[object]:
    """Return those of very many things that are of these kinds, without a call of Python's for
    each: there are few classes.
    """
    found = tensor_reads.of_kinds(things, kinds)
    if found is not None:
        return iter(found)
    classes = list(map(type, things))
    if not all(map(_is_plain, set(map(type, classes)))):
        # a metaclass may say what it likes of the hash of its classes
        return (
            thing for thing, kind in zip(things, classes, strict=True) if issubclass(kind, kinds)
        )
    wanted = {kind for kind in set(classes) if issubclass(kind, kinds)}
    # by their positions: each thing that is touched costs more than all that is done with its class
    return map(things.__getitem__, compress(count(), map(wanted.__contains__, classes)))


def _is_plain(metaclass: type) -> bool:
    """Return whether its classes are compared as classes are."""
    return metaclass.__hash__ is type.__hash__ and metaclass.__eq__ is type.__eq__


def _collections() -> tuple[int, ...]:
    """Return how many collections there were of each generation but the youngest, whose survivors
    are young still, and how many objects were taken from all generations (`gc.freeze`).
    """
    return (*(each["collections"] for each in gc.get_stats()[1:]), gc.get_freeze_count())
