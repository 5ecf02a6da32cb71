"""Finished iterations that wait to become rows: for numbers from a device, or for others, together
with which they are made faster.
"""

from __future__ import annotations

from seismograd.capture.loop.iteration import Iteration

MAX_AGE_S = 0.5
MAX_WAITING = 64  # iterations whose numbers have not come; the next one waits for the device


class PendingIterations:
    """What waits stays until it has become a row.

    Code and data that were just used are still in the processor's caches, so that several rows
    together take half.
    """

    def __init__(self) -> None:
        self.waiting: list[Iteration] = []  # in the order of numbers

    def due(self, now_s: float, together: int) -> list[Iteration]:
        """Return those whose turn has come: none while there are fewer than `together`, and none of
        them has waited long.
        """
        waiting = self.waiting
        if not waiting or (len(waiting) < together and now_s - waiting[0].ended_s < MAX_AGE_S):
            return []
        num = 0
        while num < len(waiting) and (len(waiting) - num > MAX_WAITING or waiting[num].is_ready()):
            num += 1
        return waiting[:num]
