"""Tell where a learning rate is raised to search for the best one: far up, step by step, and then
down at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.schema import FloatArray, IntArray

MIN_RAISED = 10  # steps
MIN_GROWTH = 100.0
MIN_FALL = 10.0
MAX_LEVEL = 100  # steps at one rate; a warm-up goes on at its last one


@dataclass(slots=True)
class RaisedRates:
    """Follows the rate while it does not fall, over all optimizers: what trains after a search is
    another one. What it says of a step does not depend on what is read in one go.
    """

    _first: float = np.inf
    _rate: float = np.inf
    _num_raised: int = 0
    _num_level: int = 0  # steps in a row at the current rate
    _last_step: int = -1
    _since: int = -1  # the step from which it is far up; -1: it is not
    _is_level: bool = False  # it has stayed there for too long
    _searches: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def read(self, steps: IntArray, rates: FloatArray) -> None:
        """Read the next steps."""
        if not len(rates):
            return
        falls = rates < np.concatenate([[self._rate], rates[:-1]])
        begins = np.concatenate([[0], np.flatnonzero(falls)])
        ends = np.concatenate([begins[1:], [len(rates)]])
        # of a rate that falls at each step only the last one counts
        is_read = ends - begins > MIN_RAISED
        is_read[[0, -1]] = True
        for begin, end in zip(begins[is_read].tolist(), ends[is_read].tolist(), strict=True):
            if falls[begin]:
                self._begin(float(rates[begin]))
            self._go_on(steps[begin:end], rates[begin:end])
            if end < len(rates):
                self._end(float(rates[end]))

    def is_in_search(self, step: int) -> bool | None:
        """Return whether a step is one of such a search, `None` where it is one as far as it is
        known, and only the next steps will tell.
        """
        if any(first <= step <= last for first, last in self._searches):
            return True
        return None if 0 <= self._since <= step and not self._is_level else False

    def _begin(self, rate: float) -> None:
        if self._since >= 0:  # what was open as this was read
            self._end(rate)
        self._first = self._rate = rate
        self._num_raised = self._num_level = 0
        self._since, self._is_level = -1, False

    def _go_on(self, steps: IntArray, rates: FloatArray) -> None:
        """Read steps whose rate does not fall."""
        if not len(rates):
            return
        self._first = min(self._first, float(rates[0]))
        raised = rates > np.concatenate([[min(self._rate, rates[0])], rates[:-1]])
        counts = self._num_raised + np.cumsum(raised)
        at = np.arange(len(rates))
        last = np.maximum.accumulate(np.where(raised, at, -1))
        level = np.where(last < 0, self._num_level + at + 1, at - last + 1)
        is_up = (counts >= MIN_RAISED) & (rates >= MIN_GROWTH * self._first)
        if self._since < 0 and is_up.any():
            self._since = int(steps[np.argmax(is_up)])
        if self._since >= 0:
            self._is_level |= bool((level[steps >= self._since] > MAX_LEVEL).any())
        self._rate, self._last_step = float(rates[-1]), int(steps[-1])
        self._num_raised, self._num_level = int(counts[-1]), int(level[-1])

    def _end(self, rate: float) -> None:
        """End what was raised, as the rate falls to this."""
        if self._since >= 0 and not self._is_level and rate * MIN_FALL <= self._rate:
            self._searches.append((self._since, self._last_step))
        self._since = -1
