"""Compare the loss of the last steps with that of the first ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from seismograd.analysis.medians import median


@dataclass(slots=True)
class LossLevel:
    """The finite losses of the first `num_first` steps and of the last `num_recent`."""

    num_first: int = 5
    num_recent: int = 10
    first: list[float] = field(default_factory=list[float])
    recent: deque[float] = field(default_factory=deque[float])
    lowest: float = math.inf  # of the medians of `num_recent` in a row
    num: int = 0

    def add(self, losses: Iterable[float]) -> None:
        """Add the losses of more steps; those that are not finite do not count."""
        for loss in losses:
            if not math.isfinite(loss):
                continue
            self.num += 1
            if len(self.first) < self.num_first:
                self.first.append(loss)
            self.recent.append(loss)
            if len(self.recent) > self.num_recent:
                self.recent.popleft()
            if len(self.recent) == self.num_recent:
                self.lowest = min(self.lowest, self.now)

    @property
    def at_first(self) -> float:
        """Return the median of the first losses, NaN without any."""
        return median(self.first)

    @property
    def now(self) -> float:
        """Return the median of the last losses, NaN without any."""
        return median(list(self.recent))

    def stays(self, share: float) -> bool:
        """Return whether the loss is at least this share of the first; false where it was not
        positive, or is not known.
        """
        known = len(self.recent) >= self.num_first and min(self.first) > 0
        return known and self.now >= share * self.at_first
