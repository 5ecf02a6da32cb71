"""Finished iterations that wait to become rows: for numbers from a device, or for others, with
which they are quicker made.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from seismograd.capture.loop.iteration import Iteration
from seismograd.schema import Parameter

MAX_AGE_S = 0.5
MAX_WAITING = 64  # iterations whose numbers have not come; the next one waits for the device


@dataclass(slots=True)
class FinishedIteration:
    """An iteration with what it will be recorded as: its number, the columns there were, the
    epoch.
    """

    iteration: Iteration
    number: int
    parameters: tuple[Parameter, ...]
    epoch: int
    time_s: float


class PendingIterations:
    """Hands on in order. Code and data that were just used are still in the processor's caches,
    so that several rows together take half.
    """

    def __init__(self) -> None:
        self._waiting: deque[FinishedIteration] = deque()

    def add(self, finished: FinishedIteration) -> None:
        """The next one, in the order of numbers."""
        self._waiting.append(finished)

    def take(self, now_s: float, together: int) -> list[FinishedIteration]:
        """Those whose turn has come: none while there are fewer than `together`, and none of
        them has waited long.
        """
        waiting = self._waiting
        if not waiting or (len(waiting) < together and now_s - waiting[0].time_s < MAX_AGE_S):
            return []
        taken: list[FinishedIteration] = []
        while waiting and (len(waiting) > MAX_WAITING or waiting[0].iteration.is_ready()):
            taken.append(waiting.popleft())
        return taken

    def take_all(self) -> list[FinishedIteration]:
        """All, whether their numbers have come or not."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
