"""Schedule inspections of something that may change but mostly does not: the first times, then ever
more rarely.
"""

from __future__ import annotations

FIRST = 3
MAX_POWER = 62
# the numbers of the inspections, for where even a call is too much
LOOKS = frozenset({*range(1, FIRST + 1), *(1 << power for power in range(MAX_POWER))})


def is_looked_at(number: int) -> bool:
    """Return whether the inspection with this number, from 1, is one of the first or a power of
    two.
    """
    return number <= FIRST or number & (number - 1) == 0
