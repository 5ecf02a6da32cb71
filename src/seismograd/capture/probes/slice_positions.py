"""Which scalars of a tensor a turn of the update probe copies: others in every turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

Box = tuple[slice, ...]


def flat(count: int, room: int, turn: int) -> tuple[int, int]:
    """Return where this turn's slice of a contiguous tensor begins, and how many scalars it has;
    see `box`.
    """
    if count <= room:
        return 0, count
    return min(_leap(turn, -(-count // room)) * room, count - room), room


def box(shape: Sequence[int], room: int, turn: int) -> Box:
    """Return a box of at most `room` scalars of a non-empty tensor of that shape; other scalars in
    later turns.

    The turns leap through the tensor, so that a few of them have seen its beginning, its middle and
    its end.
    """
    found: list[slice] = []
    inner = math.prod(shape)
    for size in shape:
        inner //= size
        length = min(size, max(1, room // inner))
        num_positions = -(-size // length)
        start = min(_leap(turn, num_positions) * length, size - length)
        found.append(slice(start, start + length))
        turn //= num_positions
        room = max(1, room // length)
    return tuple(found)


def _leap(turn: int, num_positions: int) -> int:
    """Return the position of a turn: each comes once in `num_positions` turns, in leaps of about
    the golden ratio.
    """
    return turn * leap_length(num_positions) % num_positions


@lru_cache(maxsize=4096)
def leap_length(num_positions: int) -> int:
    """Return how far to leap among so many positions: about the golden ratio of them, and to each
    before any comes again.
    """
    length = max(1, round(num_positions * 0.618))
    while math.gcd(length, num_positions) > 1:
        length += 1
    return length
