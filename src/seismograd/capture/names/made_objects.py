"""The models and optimizers that the program has made since torch was imported, so that they need
not be searched for in all that the garbage collector tracks.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from typing import Any

import torch

# what the constructor of an optimizer names that has torch's own constructor run
CALLS_TORCHS = frozenset({"super", "__init__"})
KEEPS_GROUPS = frozenset({"param_groups", "__dict__"})


class MadeObjects:
    """Remembers, weakly, each optimizer, and each module that has registered a parameter or another
    module, in their order. What has registered none has no part in any name.

    `is_complete`: nothing of the kind was made before.
    """

    def __init__(self) -> None:
        self._references: dict[int, weakref.KeyedRef[int, Any]] = {}
        # where references tell of a death: no frame of ours may run there
        self._died: deque[weakref.KeyedRef[int, Any]] = deque()
        self._is_listening = False
        self.is_complete = False

    def begin(self) -> None:
        """Remember what is made from now on: all there will be where torch is only being
        imported.
        """
        self._is_listening = True
        spec: Any = getattr(sys.modules.get("torch"), "__spec__", None)
        self.is_complete = bool(getattr(spec, "_initializing", False))

    def end(self) -> None:
        """Forget everything."""
        self._is_listening = self.is_complete = False
        self._references.clear()
        self._died.clear()

    def add(self, thing: Any) -> None:
        """Remember what the program has made, or given a part."""
        known = self._references.get(id(thing))
        if (known is not None and known() is thing) or not self._is_listening:
            return
        if self._died:
            self._forget_dead()
        self._references[id(thing)] = weakref.KeyedRef(thing, self._died.append, id(thing))

    def add_all(self, things: list[object]) -> None:
        """Remember what a search through everything has found: all there is."""
        for thing in things:
            self.add(thing)
        self.is_complete = self._is_listening

    def alive(self) -> list[object]:
        """Return what there is of it."""
        self._forget_dead()
        things = [reference() for reference in list(self._references.values())]
        return [thing for thing in things if thing is not None]

    def _forget_dead(self) -> None:
        while self._died:
            reference = self._died[0]
            if self._references.get(reference.key) is reference:
                del self._references[reference.key]
            # last: an exception of the program's may arrive before
            self._died.popleft()


def keeps_out_of_sight() -> bool:
    """Return whether there is a class of optimizers that keeps parameter groups without torch's
    constructor.
    """
    waiting: list[type[object]] = [torch.optim.Optimizer]
    while waiting:
        kind = waiting.pop()
        code: Any = getattr(vars(kind).get("__init__"), "__code__", None)
        if code is not None and kind is not torch.optim.Optimizer:
            names = set(code.co_names)
            if not names & CALLS_TORCHS and names & KEEPS_GROUPS:
                return True
        waiting += type.__subclasses__(kind)
    return False


# Of this process, as torch can be patched only once per process.
MADE = MadeObjects()
