"""Decide how thoroughly to look for what the script has made, so that looking never takes the
place of the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from seismograd.capture.names.discovery import DiscoveredObjects, discover_objects
from seismograd.capture.names.object_search import ObjectSearch

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_SHARE = 0.002  # of the time since the start
FREE_S = 1.0  # beyond that, until the program has broken a search off


class PacedDiscovery:
    """Searches everywhere while that is cheap compared with the run so far: a script may make an
    optimizer in every step.

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

    def look(self) -> DiscoveredObjects:
        """Return what there is."""
        return self._timed(discover_objects, self._is_cheap(), self._search)

    def search_once(self, search: Callable[[*Ts], T], *args: *Ts) -> T | None:
        """Return what a search through everything finds that is made once in a run; `None` where
        the program would break it off again.
        """
        return None if self._was_broken_off and not self._is_cheap() else self._timed(search, *args)

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
