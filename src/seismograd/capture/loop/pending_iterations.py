"""Queue finished iterations until they become rows: they wait for numbers from a device, or for
others, to be converted together.
"""

from __future__ import annotations

from seismograd.capture.loop.iteration import Iteration

MAX_AGE_S = 0.5
MAX_WAITING = 64  # iterations whose numbers have not arrived; the next one waits for the device


class PendingIterations:
    """FIFO of finished iterations; each stays until it has become a row.

    Converting several at once halves the cost: code and data stay in the processor's caches.
    """

    def __init__(self) -> None:
        self.waiting: list[Iteration] = []  # in the order of numbers

    def due(self, now_s: float, together: int) -> list[Iteration]:
        """Return those that are due: none while there are fewer than `together` and none has waited
        long.
        """
        waiting = self.waiting
        if not waiting or (len(waiting) < together and now_s - waiting[0].ended_s < MAX_AGE_S):
            return []
        num = 0
        while num < len(waiting) and (len(waiting) - num > MAX_WAITING or waiting[num].is_ready()):
            num += 1
        return waiting[:num]
