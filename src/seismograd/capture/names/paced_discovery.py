"""Decide how thoroughly to look for what the script has made, so that looking never takes the
place of the training.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar, TypeVarTuple

import torch

from seismograd.capture.names.discovery import DiscoveredObjects, among, discover_objects
from seismograd.capture.names.made_objects import MADE, keeps_out_of_sight
from seismograd.capture.names.object_search import ObjectSearch
from seismograd.capture.names.parameter_groups import held_by
from seismograd.capture.names.script_variables import variables
from seismograd.capture.names.zero_optimizer import zero_classes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_SHARE = 0.002  # of the time since the start
FREE_S = 1.0  # beyond that, until the program has broken a search off


class PacedDiscovery:
    """Looks among what the program has made since torch was imported. Where that does not hold all
    parameters, searches everywhere while that is cheap compared with the run so far: a script may
    make an optimizer in every step.

    A search that the program breaks off, as by a signal handler that raises every few milliseconds,
    would begin anew in the next call, and the program would do nothing else. From then on only the
    script's variables are searched, which takes less than a millisecond, until the time lost is a
    small share again.
    """

    def __init__(self) -> None:
        self._start_s = time.perf_counter()
        self._searched_s = 0.0
        self._was_broken_off = False
        self._search = ObjectSearch()

    def look(self, parameters: Sequence[torch.Tensor] = ()) -> DiscoveredObjects:
        """Return what there is; these parameters are held by it besides those of optimizers."""
        return self._timed(self._look, self._is_cheap(), parameters)

    def search_once(self, search: Callable[[*Ts], T], *args: *Ts) -> T | None:
        """Return what a search through everything finds that is made once in a run; `None` where
        the program would break it off again.
        """
        return None if self._was_broken_off and not self._is_cheap() else self._timed(search, *args)

    def _look(self, is_cheap: bool, parameters: Sequence[torch.Tensor]) -> DiscoveredObjects:
        if is_cheap and MADE.is_complete and not zero_classes() and not keeps_out_of_sight():
            found = among(variables(), MADE.alive())
            if _holds_all(found, parameters):
                return found
        found = discover_objects(is_cheap, self._search)
        if is_cheap and not gc.get_freeze_count():
            MADE.add_all([*found.modules, *found.optimizers])
        return found

    def _is_cheap(self) -> bool:
        free_s = 0.0 if self._was_broken_off else FREE_S
        return self._searched_s < max(free_s, MAX_SHARE * (time.perf_counter() - self._start_s))

    def _timed(self, search: Callable[[*Ts], T], *args: *Ts) -> T:
        began_s, is_done = time.perf_counter(), False
        try:
            found = search(*args)
            is_done = True
            return found
        finally:
            self._was_broken_off |= not is_done
            self._searched_s += time.perf_counter() - began_s


def _holds_all(found: DiscoveredObjects, parameters: Sequence[torch.Tensor]) -> bool:
    """Return whether these parameters, and those of the optimizers that were found, are all in
    modules that were found: so no other one need be there.
    """
    held: set[int] = set()
    for module in found.modules:
        own: dict[str, Any] = vars(module).get("_parameters") or {}
        held.update(map(id, own.values()))
    groups = (held_by(each) for each in found.optimizers if "param_groups" in vars(each))
    return held.issuperset(map(id, chain(parameters, *groups)))
