"""Queue finished iterations until they become rows: they wait for numbers from a device, or for
others, to be converted together.
"""

from __future__ import annotations

from dataclasses import dataclass

from seismograd.capture.loop.iteration import Iteration
from seismograd.schema import Parameter

MAX_AGE_S = 0.5
MAX_WAITING = 64  # iterations whose numbers have not arrived; the next one waits for the device


@dataclass(slots=True)
class FinishedIteration:
    """An iteration with its number, epoch and the columns at that time."""

    iteration: Iteration
    number: int
    parameters: tuple[Parameter, ...]
    epoch: int
    time_s: float


class PendingIterations:
    """FIFO of finished iterations; each stays until it has become a row.

    Converting several at once halves the cost: code and data stay in the processor's caches.
    """

    def __init__(self) -> None:
        self.waiting: list[FinishedIteration] = []  # in the order of numbers

    def due(self, now_s: float, together: int) -> list[FinishedIteration]:
        """Return those that are due: none while there are fewer than `together` and none has waited
        long.
        """
        waiting = self.waiting
        if not waiting or (len(waiting) < together and now_s - waiting[0].time_s < MAX_AGE_S):
            return []
        num = 0
        while num < len(waiting) and (
            len(waiting) - num > MAX_WAITING or waiting[num].iteration.is_ready()
        ):
            num += 1
        return waiting[:num]
