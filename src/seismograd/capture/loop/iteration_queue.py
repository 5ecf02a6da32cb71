"""The end of an iteration: its number, what the budget says of it, and when it becomes a row and
is handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.iteration import Iteration
from seismograd.capture.loop.iteration_end import Endings
from seismograd.capture.loop.overhead_budget import WHOLE, OverheadBudget
from seismograd.capture.loop.pending_iterations import PendingIterations
from seismograd.capture.loop.thread_state import ThreadState, ThreadStates
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.rows.row_batching import batches_of
from seismograd.capture.rows.row_builder import RowBuilder
from seismograd.schema import Note, RowBatch

MAX_SCALARS_BATCHED = 1 << 18  # columns times rows that are made at once


class IterationQueue:
    """Numbers the iterations of all lanes in the order in which they end. `thinning` says what
    the next ones may leave out.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        thread_states: ThreadStates,
        parameter_table: ParameterTable,
        row_builder: RowBuilder,
        emit: Callable[[RowBatch], None],
        tell: Callable[[Note], None],
        external_overhead_s: Callable[[], float],
        budget: OverheadBudget | None,
        max_batch_rows: Callable[[], int],
        endings: Endings,
    ) -> None:
        self.thinning = WHOLE
        self.num_rows = 0
        self.epoch = -1
        self._guard, self._thread_states, self._parameter_table, self._row_builder = (
            guard,
            thread_states,
            parameter_table,
            row_builder,
        )
        self._emit, self._tell = emit, tell
        self._external_overhead_s, self._budget, self._max_batch_rows = (
            external_overhead_s,
            budget,
            max_batch_rows,
        )
        self._pending, self._endings = PendingIterations(), endings

    def end_iteration(self, thread_state: ThreadState, ended_s: float | None = None) -> None:
        """The iteration is over, since `ended_s` if not just now: hand it on and begin the next."""
        done = thread_state.iteration
        done.overhead_s = (
            done.overhead_s + self._external_overhead_s()
        ) / self._thread_states.num_at_work(thread_state)
        self._endings.ended(done)
        now_s = time.perf_counter() if ended_s is None else ended_s
        if self._budget is not None:
            said = self._budget.step_ended(now_s, done.overhead_s)
            self.thinning = self._budget.thinning
            if said is not None:
                self._tell(Note("thinned", self.num_rows, said))
        done.parameters, done.epoch = self._parameter_table.parameters, self.epoch
        done.number, done.ended_s = self.num_rows, now_s
        following = Iteration()
        # Without a call between, where an exception of the program's could come: no iteration may
        # be lost or come twice.
        thread_state.iteration, self.num_rows = following, done.number + 1
        self._pending.waiting += [done]
        max_batch_rows = self._num_batched()
        # with the first begins all that looks at rows
        self._hand_on(
            self._pending.due(now_s, max_batch_rows if done.number else 1), max_batch_rows
        )

    def flush(self) -> None:
        """Hand on the iterations that are over, waiting for a device where that must be."""
        self._hand_on(list(self._pending.waiting), self._num_batched())

    def hand_on_old(self, thread_states: Sequence[ThreadState]) -> None:
        """Hand on what has waited for others long enough, and what is over on these lanes: a
        training that pauses shows all its steps.
        """
        now_s = time.perf_counter()
        for thread_state in thread_states:
            if self._endings.is_over(thread_state, now_s):
                self.end_iteration(thread_state, thread_state.now_s)
        max_batch_rows = self._num_batched()
        if max_batch_rows > 1:
            self._hand_on(self._pending.due(time.perf_counter(), max_batch_rows), max_batch_rows)

    def so_far(self, thread_state: ThreadState) -> RowBatch | None:
        """Return the iteration in the making as a row, numbered as it will be; `None` before its
        first step.
        """
        if not thread_state.iteration.steps:
            return None
        over = replace(
            thread_state.iteration,
            number=self.num_rows,
            parameters=self._parameter_table.parameters,
            epoch=self.epoch,
        )
        return self._row_builder.build([over])

    def _num_batched(self) -> int:
        """Return how many rows to make at once; of very many parameters fewer, for the memory that
        they take.
        """
        return min(
            self._max_batch_rows(),
            max(1, MAX_SCALARS_BATCHED // max(1, len(self._parameter_table.parameters))),
        )

    def _hand_on(self, iterations: Sequence[Iteration], max_batch_rows: int) -> None:
        """Make rows of iterations, and emit them."""
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
        self._emit(rows)
