"""Follow a learning rate that only grows, as a search for the best one makes it, until it falls
back, and what the losses did by then and do afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seismograd.schema import FloatArray

AT_ENDS = 3  # losses, the median of which counts


@dataclass(slots=True)
class RateSearch:
    """Steps in a row whose rate never falls, and the first losses after them."""

    first_step: int
    first_rate: float
    rate: float
    last_step: int = -1
    num_raised: int = 0
    first: list[float] = field(default_factory=list[float])
    recent: list[float] = field(default_factory=list[float])
    after: list[float] = field(default_factory=list[float])  # of the steps behind
    lowest: float = math.inf  # of the medians
    highest: float = -math.inf  # loss since the lowest

    def add(self, step: int, rate: float, loss: float) -> None:
        """Add a step whose rate is no lower; its loss was there before the update."""
        self.num_raised += rate > self.rate
        self.rate, self.last_step = rate, step
        loss = loss if math.isfinite(loss) else math.inf
        if len(self.first) < AT_ENDS:
            self.first.append(loss)
        self.recent = [*self.recent[1 - AT_ENDS :], loss]
        self.highest = max(self.highest, loss)
        if len(self.recent) == AT_ENDS and middle(self.recent) < self.lowest:
            self.lowest, self.highest = middle(self.recent), loss

    def add_level(self, last_step: int, losses: FloatArray) -> None:
        """Add steps with the rate of the last one: what `add` does with each of them."""
        if not len(losses):
            return
        self.last_step = last_step
        losses = np.where(np.isfinite(losses), losses, np.inf)
        self.first += losses[: max(AT_ENDS - len(self.first), 0)].tolist()
        before = np.array(self.recent[1 - AT_ENDS :])
        followed = np.concatenate([before, losses])
        self.recent = followed[-AT_ENDS:].tolist()
        self.highest = max(self.highest, float(losses.max()))
        if len(followed) < AT_ENDS:
            return
        levels = np.sort(np.lib.stride_tricks.sliding_window_view(followed, AT_ENDS), axis=1)
        medians = levels[:, AT_ENDS // 2]
        at = int(medians.argmin())  # the first of them
        if medians[at] < self.lowest:
            begin = at + AT_ENDS - 1 - len(before)  # the step whose loss completes it
            self.lowest, self.highest = float(medians[at]), float(losses[begin:].max())

    @property
    def growth(self) -> float:
        """Return how many times the first rate the last one is."""
        return self.rate / self.first_rate

    @property
    def is_known(self) -> bool:
        """Return whether there are enough losses behind it."""
        return len(self.after) >= AT_ENDS

    def is_left(self, times: float) -> bool:
        """Return whether the first loss behind it, that of the weights as it left them, is so many
        times the highest of those with which it began, and the next ones are no lower than that.
        """
        begin = max(self.first)
        return self.after[0] >= times * begin and middle(self.after) >= begin


def middle(losses: list[float]) -> float:
    """Return the median, which may be infinite."""
    return sorted(losses)[len(losses) // 2] if losses else math.nan
