"""End iterations: assign their numbers, apply the overhead budget, and hand them on as rows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.iteration import Iteration
from seismograd.capture.loop.iteration_end import Endings
from seismograd.capture.loop.overhead_budget import WHOLE, OverheadBudget
from seismograd.capture.loop.pending_iterations import MAX_AGE_S, PendingIterations
from seismograd.capture.loop.session_outlet import NullOutlet, SessionOutlet
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.rows.row_batching import batches_of
from seismograd.capture.rows.row_builder import RowBuilder
from seismograd.schema import Note, Parameter, RowBatch

new = object.__new__
# columns times rows that are made at once; while they are, they are in memory twice
MAX_SCALARS_BATCHED = 1 << 14


class IterationQueue:
    """Numbers the iterations of all threads in the order in which they end. `thinning` says what
    the next ones may leave out.

    Iterations wait here for their numbers from the device, so that no step waits for a transfer,
    and for each other, because making several rows at once is cheaper. They leave in order: a
    reader of the record may assume that row numbers only grow.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        parameter_table: ParameterTable,
        row_builder: RowBuilder,
        budget: OverheadBudget | None,
        endings: Endings,
    ) -> None:
        self.thinning = WHOLE
        self.num_rows = 0
        self.epoch = -1
        self._guard, self._parameter_table, self._row_builder = guard, parameter_table, row_builder
        self._budget = budget
        self.outlet: SessionOutlet = NullOutlet()  # set by `connect`
        self._pending, self._endings = PendingIterations(), endings
        # how many rows are made at once, as long as there are these columns; 0 to ask again
        self._num_together = 0
        self._columns: Sequence[Parameter] = ()

    def end_iteration(self, thread_state: ThreadState, ended_s: float | None = None) -> None:
        """End the iteration (at `ended_s` if not just now), hand it on and begin the next."""
        done = thread_state.iteration
        for take_overhead in self.outlet.others:
            done.overhead_s += take_overhead()
        if len(done.steps) > 1 or done.steps[0].optimizer not in self._endings.alone:
            self._endings.ended(done)
        now_s = time.perf_counter() if ended_s is None else ended_s
        if self._budget is not None:
            said = self._budget.step_ended(now_s, done.overhead_s)
            self.thinning = self._budget.thinning
            if said is not None:
                self.outlet.note(Note("thinned", self.num_rows, said))
        # Only now: what was first seen in the course of the iteration has a column in it.
        done.parameters = self._parameter_table.parameters
        if done.epoch is None:
            done.epoch = self.epoch
        done.number, done.ended_s = self.num_rows, now_s
        following = new(Iteration)  # without the call of its `__init__`
        following.events, following.steps, following.compared = [], [], []
        following.overhead_s, following.number, following.parameters = 0.0, -1, ()
        following.epoch, following.ended_s = None, math.nan
        # Without a call in between, where an exception of the program's could arrive: no iteration
        # may be lost or come twice.
        thread_state.iteration, self.num_rows = following, done.number + 1
        waiting = self._pending.waiting
        waiting += [done]
        # Nearly every step ends here: not so many wait, and none has for long.
        if (
            len(waiting) < self._num_together
            and done.parameters is self._columns
            and now_s - waiting[0].ended_s < MAX_AGE_S
        ):
            return
        max_batch_rows = self._num_together = self._num_batched()
        self._columns = done.parameters
        # emit the first row at once, so that the sinks start
        due = self._pending.due(now_s, max_batch_rows if done.number else 1)
        if due:
            self._hand_on(due, max_batch_rows)

    def flush(self) -> None:
        """Hand on the iterations that are over, waiting for a device if necessary."""
        self._hand_on(list(self._pending.waiting), self._num_batched())
        self._num_together = 0  # this process may be about to join others

    def hand_on_old(self, thread_states: Sequence[ThreadState]) -> None:
        """Hand on what has waited long enough, and the finished iterations of these threads: a
        paused training shows all its steps.
        """
        now_s = time.perf_counter()
        for thread_state in thread_states:
            # An evaluation or a checkpoint may take minutes, and a crash in it must not lose the
            # step before.
            if self._endings.is_over(thread_state, now_s):
                self.end_iteration(thread_state, thread_state.now_s)
        max_batch_rows = self._num_batched()
        self._hand_on(self._pending.due(time.perf_counter(), max_batch_rows), max_batch_rows)

    def so_far(self, thread_state: ThreadState) -> RowBatch | None:
        """Return the current iteration as a row, numbered as it will be; `None` before its first
        step.
        """
        if not thread_state.iteration.steps:
            return None
        over = replace(
            thread_state.iteration,
            number=self.num_rows,
            parameters=self._parameter_table.parameters,
            epoch=self.epoch
            if thread_state.iteration.epoch is None
            else thread_state.iteration.epoch,
        )
        return self._row_builder.build([over])

    def _num_batched(self) -> int:
        """Return how many rows to make at once; fewer with very many parameters, to bound
        memory.
        """
        return min(
            self.outlet.max_batch_rows,
            max(1, MAX_SCALARS_BATCHED // max(1, len(self._parameter_table.parameters))),
        )

    def _hand_on(self, iterations: Sequence[Iteration], max_batch_rows: int) -> None:
        """Make rows of iterations and emit them."""
        batches = batches_of(iterations) if max_batch_rows > 1 else [[each] for each in iterations]
        for each in batches:
            rows = self._guard.call("row", self._row_builder.build, each)
            # Until now they could be made again.
            if rows is None or self._guard.leaves_out("emit"):
                del self._pending.waiting[: len(each)]
            else:
                self._guard.call("emit", self._pass_on, rows)

    def _pass_on(self, rows: RowBatch) -> None:
        del self._pending.waiting[: len(rows)]
        # Straight to the outlet: at each call in between, an exception of the program's could
        # arrive and the row be lost.
        self.outlet.emit(rows)
