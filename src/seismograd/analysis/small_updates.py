"""Follow how little the weights of one optimizer move, group of steps by group of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from seismograd.analysis.block_rows import as_list
from seismograd.analysis.medians import median
from seismograd.analysis.step_groups import StepGroup, TrainingStart

PLAIN = ("SGD",)  # optimizers whose update shrinks with the gradient


class SmallUpdateLimits(Protocol):
    """The thresholds of `UpdateTooSmall` that are needed here."""

    max_ratio: float
    min_contrast: float


@dataclass(slots=True)
class SmallUpdateTrack:
    """The state of one optimizer after its last group."""

    start: TrainingStart
    last: StepGroup
    measured: StepGroup  # the last in which an update was
    lr_at_first: float  # where the weights began to stand still
    highest_lr: float = 0.0
    num: int = 0  # groups
    num_still: int = 0  # groups in a row until now in which no weight moved
    num_slow: int = 0  # the same in which a parameter group stayed behind
    since: int = -1  # the iteration in which `num_still` began
    steepest: float = 0.0  # ratio
    is_still: bool = False
    is_judged: bool = True  # no loss was negative
    has_moved: bool = False
    slow_group: int | None = None

    @classmethod
    def begin(cls, first: StepGroup) -> SmallUpdateTrack:
        """Return the state before the first group."""
        return cls(TrainingStart.of(first), first, first, first.first_lr)

    def add(self, step_group: StepGroup, limits: SmallUpdateLimits) -> None:
        """Add the next group."""
        batch, index = step_group.batch, step_group.index
        self.last, self.num = step_group, self.num + 1
        self.is_judged &= not batch.below_zero[index]
        self.highest_lr = max(self.highest_lr, batch.highest_lrs[index])
        moves = batch.largest_moves if step_group.kind in PLAIN else batch.usual_moves
        ratio = moves[index]
        if math.isnan(ratio):
            return
        self.measured = step_group
        self.is_still, self.steepest = ratio < limits.max_ratio, max(self.steepest, ratio)
        if self.is_still:
            self.since = step_group.first_step if self.num_still == 0 else self.since
            self.num_still += 1
        else:
            self.num_still, self.has_moved = 0, True
        if self.num_still <= 1:
            self.lr_at_first = step_group.first_lr
        slow = _slow_group(step_group, limits) if batch.weights.has_several_groups else None
        is_same = slow is not None and slow in (self.slow_group, None)
        self.num_slow = self.num_slow + 1 if is_same else int(slow is not None)
        self.slow_group = slow

    def has_fallen(self, share: float) -> bool:
        """Return whether the loss has fallen by more than this share, and by more than it
        scatters.
        """
        fall = self.start.loss - self.last.loss_level
        return fall > (share + self.last.loss_noise) * abs(self.start.loss)


def _slow_group(step_group: StepGroup, limits: SmallUpdateLimits) -> int | None:
    """Return the parameter group that stays behind the others."""
    of, ratios = step_group.batch.weights.groups, step_group.batch.moves[step_group.index]
    known = np.isfinite(ratios)
    groups, position = np.unique(of[known & (of >= 0)], return_inverse=True)
    if len(groups) < 2:
        return None
    largest = np.full(len(groups), -np.inf)
    np.maximum.at(largest, position, ratios[known & (of >= 0)])
    fastest = int(np.argmax(largest))
    is_slow = (largest < limits.max_ratio) & (largest * limits.min_contrast <= largest[fastest])

    def norm_of(group: int) -> float:
        norms = step_group.norm[:, known & (of == groups[group])]
        return median(np.nanmax(norms, axis=1, initial=0))

    for slow in as_list(np.flatnonzero(is_slow)):
        is_by_gradient = norm_of(slow) * limits.min_contrast <= norm_of(fastest) * 10
        if step_group.kind not in PLAIN or not is_by_gradient:
            return int(groups[slow])
    return None
