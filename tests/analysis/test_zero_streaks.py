"""Streaks of zeros as one would count them step by step, however the steps come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd.analysis.zero_streaks import StreakRows, ZeroStreaks
from tests.synthetic import block


@dataclass
class Counted:
    """The streak of one parameter."""

    since: int = -1
    in_a_row: int = 0
    moves: int = 0
    last: float = math.nan
    num: int = 0
    num_ended: int = 0

    def add(self, step: int, is_zero: bool, ratio: float) -> None:
        if not is_zero:
            self.num_ended += self.in_a_row > 0
            self.in_a_row = 0
            return
        if self.in_a_row == 0:
            self.since, self.moves = step, 0
        self.num, self.in_a_row = self.num + 1, self.in_a_row + 1
        if ratio > 0:
            self.moves, self.last = self.moves + 1, ratio


@given(st.data(), st.integers(1, 30), st.integers(1, 3))
def test_streaks_are_counted_however_steps_are_cut(
    data: st.DataObject, num_steps: int, num_columns: int
) -> None:
    size = num_steps * num_columns
    zero = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    moved = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 0.1, np.nan]), min_size=size, max_size=size)),
        np.float32,
    )
    zero, moved = (each.reshape(num_steps, num_columns) for each in (zero, moved))
    made = block(np.where(zero, 0.0, 1.0), values={"update_ratio": moved})
    streaks, counted, start = ZeroStreaks(), [Counted() for _ in range(num_columns)], 0
    while start < num_steps:
        stop = data.draw(st.integers(start + 1, num_steps))
        part, rows = made.rows(start, stop), np.arange(stop - start)
        seen = streaks.read(part, rows, np.arange(num_columns), zero[start:stop])
        for row in range(start, stop):
            for column, each in enumerate(counted):
                each.add(row, bool(zero[row, column]), float(moved[row, column]))
            _assert_same(seen, row - start, counted)
        start = stop
    assert streaks.num_steps == num_steps


def test_what_an_optimizer_holds_no_longer_has_no_streak() -> None:
    made, rows = block([[0.0, 1.0]] * 3, values={"update_ratio": [[0.1, 0.1]] * 3}), np.arange(3)
    streaks = ZeroStreaks()
    for columns, in_a_row, num_ended in (([0, 1], 3, 0), ([1], None, None), ([0, 1], 3, 1)):
        zero = np.array([[column == 0 for column in columns]] * 3)
        seen = streaks.read(made, rows, np.array(columns), zero)
        assert seen is not None
        if in_a_row is not None:
            assert seen.columns.tolist() == [0]
            assert (seen.in_a_row[-1, 0], seen.num_ended[-1, 0]) == (in_a_row, num_ended)


def _assert_same(seen: StreakRows | None, row: int, counted: list[Counted]) -> None:
    """The same of all that have a streak now, as far as it says anything."""
    there = [] if seen is None else seen.columns.tolist()
    for column, each in enumerate(counted):
        if column not in there:
            assert each.in_a_row == 0
            continue
        assert seen is not None
        at = row, there.index(column)
        assert seen.in_a_row[at] == each.in_a_row
        assert seen.num[at] == each.num
        assert seen.num_ended[at] == each.num_ended
        if each.in_a_row:
            assert (seen.since[at], seen.moves[at]) == (each.since, each.moves)
        if each.moves:
            assert seen.last(row)[at[1]] == each.last
