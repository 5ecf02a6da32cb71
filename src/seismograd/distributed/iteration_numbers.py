"""Number iterations so that all processes of a world count alike, wherever each of them cuts."""

from __future__ import annotations

from seismograd.schema import EventFlag, EventKind, RowBatch

_BACKWARD, _STEP, _CLOSURE = int(EventKind.BACKWARD), int(EventKind.STEP), int(EventFlag.CLOSURE)
_PARTS = 256  # of one iteration; more than anyone makes


class IterationNumbers:
    """Counts from the events of the rows alone, which are the same on every process.

    A process whose training pauses between the steps of two optimizers may take the iteration for
    over, while another one, which paused a little less, does not. What comes after such a cut has
    the number of the iteration and a part of its own, so that the next iteration has one number
    again.
    """

    def __init__(self) -> None:
        self.num_begun = 0
        self._part = 0
        self._stepped = frozenset[int]()

    def take(self, row: RowBatch) -> int:
        """Return the index of the next row: it only grows, and equal ones belong together."""
        kinds, events = row.events["kind"], row.events
        stepped = frozenset(events["optimizer"][kinds == _STEP].tolist())
        begun = bool(((kinds == _BACKWARD) & (events["flags"] & _CLOSURE == 0)).any())
        # Within an iteration there is no further backward, and no optimizer steps twice.
        if self.num_begun and not begun and stepped and stepped.isdisjoint(self._stepped):
            self._part = min(self._part + 1, _PARTS - 1)
            self._stepped |= stepped
        else:
            self.num_begun += 1
            self._part, self._stepped = 0, stepped
        return (self.num_begun - 1) * _PARTS + self._part
