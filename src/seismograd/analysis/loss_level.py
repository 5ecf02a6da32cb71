"""Compare the loss of the last steps with that of the first ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.medians import median, moving_medians
from seismograd.schema import FloatArray


@dataclass(slots=True)
class LossLevel:
    """The finite losses of the first `num_first` steps and of the last `num_recent`."""

    num_first: int = 5
    num_recent: int = 10
    tracks_lowest: bool = False  # takes a median at every step
    first: list[float] = field(default_factory=list[float])
    recent: list[float] = field(default_factory=list[float])
    lowest: float = math.inf  # of the medians of `num_recent` in a row
    num: int = 0

    def add(self, losses: FloatArray) -> None:
        """Add the losses of more steps; those that are not finite do not count."""
        known = losses[np.isfinite(losses)]
        self.num += len(known)
        self.first += known[: max(self.num_first - len(self.first), 0)].tolist()
        if self.tracks_lowest:
            followed = np.concatenate([self.recent[-self.num_recent + 1 :], known])
            levels = moving_medians(followed, self.num_recent)
            self.lowest = min(self.lowest, float(levels.min(initial=math.inf)))
        recent = [*self.recent, *known[-self.num_recent :].tolist()]
        self.recent = recent[-self.num_recent :]

    @property
    def at_first(self) -> float:
        """Return the median of the first losses, NaN without any."""
        return median(self.first)

    @property
    def now(self) -> float:
        """Return the median of the last losses, NaN without any."""
        return median(self.recent)

    def stays(self, share: float) -> bool:
        """Return whether the loss is at least this share of the first; false where it was not
        positive, or is not known.
        """
        known = len(self.recent) >= self.num_first and min(self.first) > 0
        return known and self.now >= share * self.at_first

    def fell_to(self, level: float, share: float) -> bool:
        """Return whether the first losses were above this level, and the last are no lower than
        this share of it; false where it is NaN.
        """
        known = len(self.recent) >= self.num_first
        return known and self.at_first >= level > 0 and self.now >= share * level

    def has_risen(self, factor: float) -> bool:
        """Return whether it is this many times the lowest level; false as above."""
        known = len(self.recent) >= self.num_first and min(self.first) > 0
        return known and self.now >= factor * self.lowest > 0
