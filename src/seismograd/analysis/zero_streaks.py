"""Track the parameters of one optimizer whose gradient is exactly zero, and whether they move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray, statistic
from seismograd.schema import IntArray, RowBatch, State


@dataclass(slots=True)
class ZeroStreak:
    """The steps in which the gradient of a parameter was zero."""

    since: int  # those in a row
    num: int = 0
    in_a_row: int = 0
    moves: int = 0  # of those in a row
    last: float = math.nan  # update ratio
    num_ended: int = 0  # streaks before this one


@dataclass(slots=True)
class ZeroStreaks:
    """The streaks by the names of parameters."""

    num_steps: int = 0
    by_name: dict[str, ZeroStreak] = field(default_factory=dict[str, ZeroStreak])

    def add(self, step: int, moved: Mapping[str, float]) -> None:
        """Add a step, and how far each parameter moved whose gradient was zero in it; it ends the
        streaks of all others.
        """
        self.num_steps += 1
        for name, ratio in moved.items():
            streak = self.by_name.setdefault(name, ZeroStreak(step))
            if streak.in_a_row == 0:
                streak.since, streak.moves = step, 0
            streak.num, streak.in_a_row = streak.num + 1, streak.in_a_row + 1
            if ratio > 0:
                streak.moves, streak.last = streak.moves + 1, ratio
        for name, streak in self.by_name.items():
            if name not in moved:
                streak.num_ended += streak.in_a_row > 0
                streak.in_a_row = 0

    def moving(
        self, min_steps: int, min_moves: int, min_share: float, max_ended: int
    ) -> dict[str, ZeroStreak]:
        """Return those that go on, are this long, moved this often and take this share of all
        steps, after this many others at most.
        """
        return {
            name: each
            for name, each in self.by_name.items()
            if each.in_a_row >= min_steps
            and each.moves >= min_moves
            and each.num >= min_share * self.num_steps
            and each.num_ended <= max_ended
        }


def used_as_zero(block: RowBatch, rows: IntArray, columns: IntArray) -> BoolArray:
    """Return where the gradient that the optimizer used is zero, in rows in which another is not
    # (rows, columns).
    """
    state = block.state[np.ix_(rows, columns)]
    finite, zero = state == State.FINITE, state == State.ZERO
    if "applied_norm" in block.values:
        zero |= finite & (statistic(block, "applied_norm")[np.ix_(rows, columns)] == 0)
    return zero & (finite & ~zero).any(axis=1)[:, None]
