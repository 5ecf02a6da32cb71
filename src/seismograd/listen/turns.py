"""The end of an iteration: its number, what the budget says of it, and when it becomes a row and is handed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from seismograd.listen.backlog import Backlog, Finished
from seismograd.listen.budget import WHOLE, Budget
from seismograd.listen.endings import Endings
from seismograd.listen.guard import Guard
from seismograd.listen.iteration import Iteration
from seismograd.listen.lanes import Lane, Lanes
from seismograd.listen.roster import Roster
from seismograd.listen.rows import row_of
from seismograd.listen.together import rows_of, runs_of
from seismograd.schema import Note, Row, Rows

MAX_SCALARS_TOGETHER = 1 << 18  # columns times rows that are made at once


class Turns:
    """Numbers the iterations of all lanes in the order in which they end. `thinning` says what the next ones may leave out."""

    def __init__(
        self,
        guard: Guard,
        lanes: Lanes,
        roster: Roster,
        num_elements: int,
        emit: Callable[[Row | Rows], None],
        tell: Callable[[Note], None],
        beside: Callable[[], float],
        budget: Budget | None,
        together: Callable[[], int],
        endings: Endings,
    ) -> None:
        self.thinning = WHOLE
        self.num_rows = 0
        self.epoch = -1
        self._guard, self._lanes, self._roster, self._num_elements = guard, lanes, roster, num_elements
        self._emit, self._tell = emit, tell
        self._beside, self._budget, self._together = beside, budget, together
        self._backlog, self._endings = Backlog(), endings

    def turn(self, lane: Lane, ended_s: float | None = None) -> None:
        """The iteration is over, since `ended_s` if not just now: hand it on and begin the next."""
        done, lane.iteration = lane.iteration, Iteration()
        done.overhead_s = (done.overhead_s + self._beside()) / self._lanes.num_at_work(lane)
        self._endings.ended(done)
        now_s = time.perf_counter() if ended_s is None else ended_s
        if self._budget is not None:
            said = self._budget.step_ended(now_s, done.overhead_s)
            self.thinning = self._budget.thinning
            if said is not None:
                self._tell(Note("thinned", self.num_rows, said))
        number, self.num_rows = self.num_rows, self.num_rows + 1
        self._backlog.add(Finished(done, number, self._roster.parameters, self.epoch, now_s))
        together = self._num_together()
        self._hand_on(self._backlog.take(now_s, together if number else 1), together)  # with the first begins all that looks at rows

    def flush(self) -> None:
        """Hand on the iterations that are over, waiting for a device where that must be."""
        self._hand_on(self._backlog.take_all(), self._num_together())

    def hand_on_old(self, lanes: Sequence[Lane]) -> None:
        """Hand on what has waited for others long enough, and what is over on these lanes: a training that pauses shows all its steps."""
        now_s = time.perf_counter()
        for lane in lanes:
            if self._endings.is_over(lane, now_s):
                self.turn(lane, lane.now_s)
        together = self._num_together()
        if together > 1:
            self._hand_on(self._backlog.take(time.perf_counter(), together), together)

    def so_far(self, lane: Lane) -> Row | None:
        """The iteration in the making as a row, numbered as it will be; `None` before its first step."""
        if not lane.iteration.steps:
            return None
        return row_of(lane.iteration, self.num_rows, self._roster.parameters, self._num_elements, self.epoch)

    def _num_together(self) -> int:
        """How many rows to make at once; of very many parameters fewer, for the memory that they take."""
        return min(self._together(), max(1, MAX_SCALARS_TOGETHER // max(1, len(self._roster.parameters))))

    def _hand_on(self, finished: Sequence[Finished], together: int) -> None:
        """Make rows of iterations, and emit them."""
        for run in runs_of(finished) if together > 1 else [[each] for each in finished]:
            if len(run) > 1:
                rows = self._guard.call("row", rows_of, run)
                if rows is not None:
                    self._guard.call("emit", self._emit, rows)
            else:
                self._hand_on_one(run[0])

    def _hand_on_one(self, each: Finished) -> None:
        row = self._guard.call("row", row_of, each.iteration, each.number, each.parameters, self._num_elements, each.epoch)
        if row is not None:
            self._guard.call("emit", self._emit, row)
