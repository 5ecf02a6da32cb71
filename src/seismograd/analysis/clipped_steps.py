"""Steps whose gradients were clipped, by norm or by value, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import as_list, numbers
from seismograd.analysis.medians import median
from seismograd.analysis.shared_block import SharedBlock


@dataclass(frozen=True, slots=True)
class ClippedStep:
    """A step with a clip, which need not have changed anything. `ratio` is the norm over the limit,
    for a clip by value over the norm after it; `applied` is the norm after it.
    """

    row: int
    optimizer: int
    iteration: int
    by_value: bool
    ratio: float
    coefficient: float
    applied: float

    @property
    def is_clipped(self) -> bool:
        """Return whether the clip has multiplied the gradients by less than one."""
        return self.coefficient < 1


@dataclass(slots=True)
class RecentClips:
    """The last `size` steps of one optimizer with a clip; beside each the median update of the
    weights, and weight decay over the norm after the clip, NaN where they were not measured or do
    not matter.
    """

    size: int
    steps: list[ClippedStep] = field(default_factory=list[ClippedStep])
    _updates: list[float] = field(default_factory=list[float])
    _pulls: list[float] = field(default_factory=list[float])

    def add(self, step: ClippedStep, update: float, pull: float) -> None:
        """Add a step."""
        self.steps = [*self.steps, step][-self.size :]
        self._updates = [*self._updates, update][-self.size :]
        self._pulls = [*self._pulls, pull][-self.size :]

    @property
    def share(self) -> float:
        """Return the share of steps that the clip has changed."""
        return sum(each.is_clipped for each in self.steps) / len(self.steps)

    @property
    def ratio(self) -> float:
        """Return the median ratio."""
        return median([each.ratio for each in self.steps])

    @property
    def coefficient(self) -> float:
        """Return the median coefficient."""
        return median([each.coefficient for each in self.steps])

    @property
    def applied(self) -> float:
        """Return the median norm after the clip."""
        return median([each.applied for each in self.steps])

    @property
    def update(self) -> float:
        """Return the median update; NaN: none was measured."""
        return median(self._updates)

    @property
    def pull(self) -> float:
        """Return the largest pull: a decay that wins makes the weights small, and with them
        itself.
        """
        return max(filter(math.isfinite, self._pulls), default=math.nan)


def clipped_steps(block: SharedBlock) -> Iterator[ClippedStep]:
    """Yield the steps with a clip whose gradients were used, in order."""
    limit = numbers(block.steps, "clip_limit")
    if np.isnan(limit).all():
        return
    norm, coefficient = numbers(block.steps, "clip_norm"), numbers(block.steps, "clip_coefficient")
    ready, applied = numbers(block.steps, "grad_norm"), numbers(block.steps, "applied_norm")
    by_value = np.isnan(coefficient) & np.isfinite(limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_value = np.where(applied < (1 - 1e-6) * ready, applied / ready, 1.0)
        coefficient = np.where(by_value, of_value, coefficient)
        ratios = np.where(by_value, 1 / coefficient, norm / limit)
    known = np.isfinite(coefficient) & np.isfinite(ratios)
    for row in as_list(np.flatnonzero(known & (limit > 0) & block.updates)):
        yield ClippedStep(
            row,
            int(block.steps["optimizer"][row]),
            int(block.steps["iteration"][row]),
            bool(by_value[row]),
            float(ratios[row]),
            float(coefficient[row]),
            float(applied[row]),
        )
