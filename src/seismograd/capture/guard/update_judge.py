"""Judge whether the update of an optimizer has exploded, from the norms of those before it."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

# SG103 gradient-spike judges a norm whose loss is not known by the same numbers.
WINDOW = 32  # updates that are remembered
FIRST_UPDATES = 10  # never judged
MIN_FACTOR = 100.0  # of their median
MIN_DEVIATIONS = 6.0
ABOVE_LARGEST = 3.0  # of the largest of them
LONGEST = 10  # updates in a row; then this is the new size
NORMAL = 1.4826  # standard deviation of a normal distribution / median distance from its median


class UpdateJudge:
    """Remembers the norms of the gradients that one optimizer was given, as far as they did not
    stand out.
    """

    def __init__(self) -> None:
        self._past: deque[float] = deque(maxlen=WINDOW)  # logarithms
        self._first: list[float] = []
        self._largest = -math.inf
        self.num_in_a_row = 0

    def usual(self, norm: float) -> float | None:
        """Return the usual norm when this one is an explosion; `None` when it is not, and then
        remember it. A norm that was not measured (NaN), or is zero, says nothing.
        """
        if not norm > 0:
            return None
        height = math.log10(norm) if math.isfinite(norm) else math.inf
        if height > self._largest + math.log10(ABOVE_LARGEST) and len(self._past) >= FIRST_UPDATES:
            middle = median(self._past)
            if self._stands_out(height, middle):
                self.num_in_a_row += 1
                return float(10**middle)
        self._remember(height)
        return None

    def accept(self) -> None:
        """Begin anew: what stood out is the new size of the updates."""
        self._past.clear()
        self._first.clear()
        self._largest, self.num_in_a_row = -math.inf, 0

    def _stands_out(self, height: float, middle: float) -> bool:
        spread = NORMAL * median(abs(each - middle) for each in self._past)
        above = max(math.log10(MIN_FACTOR), MIN_DEVIATIONS * spread)
        return height >= middle + above and height >= median(self._first)

    def _remember(self, height: float) -> None:
        self.num_in_a_row = 0
        if not math.isfinite(height):
            return
        if len(self._first) < FIRST_UPDATES:
            self._first.append(height)
        leaves = self._past[0] if len(self._past) == WINDOW else -math.inf
        self._past.append(height)
        if leaves >= self._largest:
            self._largest = max(self._past)
        else:
            self._largest = max(self._largest, height)
