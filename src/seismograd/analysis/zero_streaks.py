"""Track the parameters of one optimizer whose gradient is exactly zero, and whether they move."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray, statistic
from seismograd.analysis.parameter_index import ParameterHistory
from seismograd.schema import AnyArray, FloatArray, IntArray, Parameter, RowBatch, State

# Of a parameter: the first of the steps in a row in which its gradient was zero, how many there are
# of these, in how many of them it moved, and how far in the last one that moved it; in how many
# steps its gradient was zero in all, and how many streaks ended before this one.
NO_STREAK = np.array(
    [(-1, 0, 0, np.nan, 0, 0)],
    [
        ("since", "i8"),
        ("in_a_row", "i8"),
        ("moves", "i8"),
        ("last", "f8"),
        ("num", "i8"),
        ("num_ended", "i8"),
    ],
)


@dataclass(frozen=True, slots=True)
class StreakRows:
    """The streaks after each of some steps, of the parameters that have one or begin one there
    # each (rows, columns).
    """

    columns: IntArray
    since: IntArray
    in_a_row: IntArray
    moves: IntArray
    num: IntArray
    num_ended: IntArray
    num_steps: IntArray  # (rows, 1)
    has_moved: BoolArray  # in this step
    ratio: FloatArray  # how far
    last_before: FloatArray  # how far in the last step before these that moved it  # (columns,)

    def last(self, row: int) -> FloatArray:
        """Return how far each moved in the last step up to a row that moved it  # (columns,)."""
        moved = self.has_moved[row::-1]
        latest = row - moved.argmax(axis=0)
        return np.where(
            moved.any(axis=0), self.ratio[latest, np.arange(len(latest))], self.last_before
        )

    def going(self, min_steps: int, min_moves: int, min_share: float, max_ended: int) -> BoolArray:
        """Return which go on, are this long, moved this often and take this share of all steps,
        after this many others at most.
        """
        return (
            (self.in_a_row >= min_steps)
            & (self.moves >= min_moves)
            & (self.num >= min_share * self.num_steps)
            & (self.num_ended <= max_ended)
        )


@dataclass(slots=True)
class ZeroStreaks:
    """The streaks of the parameters of one optimizer."""

    num_steps: int = 0
    _history: ParameterHistory = field(default_factory=lambda: ParameterHistory(NO_STREAK))
    _parameters: tuple[Parameter, ...] | None = None
    _of_columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def read(
        self, block: RowBatch, rows: IntArray, columns: IntArray, zero: BoolArray
    ) -> StreakRows | None:
        """Read steps in which the gradients of these columns were `zero`  # (rows, columns);
        return what goes on in any of them, `None` where there was never anything.
        """
        first, self.num_steps = self.num_steps + 1, self.num_steps + len(rows)
        if not zero.any() and not len(self._history.records):
            return None
        records, own = self._records(block.parameters), self._of_columns[columns]
        runs = zero.any(axis=0) | (records["in_a_row"][own] > 0)
        self._end_all_but(own[runs])
        taken = columns[runs]
        seen = _read_streaks(
            records[own[runs]],
            np.asarray(block.steps["iteration"][rows], np.int64),
            zero[:, runs],
            statistic(block, "update_ratio")[np.ix_(rows, taken)],
            np.arange(first, self.num_steps + 1)[:, None],
            taken,
        )
        for name in ("since", "in_a_row", "moves", "num", "num_ended"):
            records[name][own[runs]] = getattr(seen, name)[-1]
        records["last"][own[runs]] = seen.last(len(rows) - 1)
        return seen

    def _records(self, parameters: tuple[Parameter, ...]) -> AnyArray:
        """Return the streaks of all parameters there were, after finding the columns of these."""
        if parameters is not self._parameters:
            self._parameters, self._of_columns = parameters, self._history.rows(parameters)
        return self._history.records

    def _end_all_but(self, kept: IntArray) -> None:
        """End the streaks of parameters that the optimizer does not hold any more."""
        records = self._history.records
        ends = records["in_a_row"] > 0
        ends[kept] = False
        records["num_ended"][ends] += 1
        records["in_a_row"][ends] = 0


def _read_streaks(
    before: AnyArray,
    steps: IntArray,
    zero: BoolArray,
    ratio: FloatArray,
    num_steps: IntArray,
    columns: IntArray,
) -> StreakRows:
    """Follow the streaks from those before through these steps."""
    row, goes_on = np.arange(len(steps))[:, None], before["in_a_row"] > 0
    # the last row in which the gradient was not zero
    other = np.maximum.accumulate(np.where(zero, -1, row), axis=0)
    moved = zero & (ratio > 0)
    is_earlier = (other < 0) & goes_on  # than the first row
    num_moves, preceded = np.cumsum(moved, axis=0), np.concatenate([goes_on[None], zero[:-1]])
    num_other = np.where(other < 0, 0, np.take_along_axis(num_moves, np.maximum(other, 0), 0))
    begun = np.minimum(other + 1, len(steps) - 1)
    return StreakRows(
        columns=columns,
        since=np.where(is_earlier, before["since"], steps[begun]),
        in_a_row=row - other + np.where(is_earlier, before["in_a_row"], 0),
        moves=num_moves - num_other + np.where(is_earlier, before["moves"], 0),
        num=before["num"] + np.cumsum(zero, axis=0),
        num_ended=before["num_ended"] + np.cumsum(preceded & ~zero, axis=0),
        num_steps=num_steps,
        has_moved=moved,
        ratio=ratio,
        last_before=before["last"],
    )


def used_as_zero(block: RowBatch, rows: IntArray, columns: IntArray) -> BoolArray:
    """Return where the gradient that the optimizer used is zero, in rows in which another is not
    # (rows, columns).
    """
    state = block.state[np.ix_(rows, columns)]
    finite, zero = state == State.FINITE, state == State.ZERO
    if "applied_norm" in block.values:
        zero |= finite & (statistic(block, "applied_norm")[np.ix_(rows, columns)] == 0)
    return zero & (finite & ~zero).any(axis=1)[:, None]
