"""Combine the reports of all processes for each iteration, in a thread on rank 0."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from seismograd.capture.loop.error_guard import failure_message
from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.ownership import RankView
from seismograd.distributed.peer import PeerRank
from seismograd.distributed.rank_report import RankColumns, RankReport
from seismograd.distributed.rank_row import RankRow
from seismograd.distributed.report_log import AllReports, ReportKeeper
from seismograd.distributed.report_server import ReportServer
from seismograd.distributed.row_combiner import RowCombiner
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.world import World
from seismograd.i18n import Message, say
from seismograd.schema import Fact, Note, RowBatch

MAX_BYTES = 32 * 2**20  # of iterations that wait for others
MAX_SAID = 16  # missing ranks listed by number
INTERVAL_S = 0.2
RankMessage = tuple[RankColumns, frozenset[int], RankReport]


class RankCollector:
    """Takes the iterations of rank 0, waits for the others up to a limit, and delivers them in
    order.

    Args:
        world: the processes.
        deliver: called with each combined iteration.
        report: called with notes.
        learn: called with facts.
        exchange: what the processes have exchanged so far.
        limits: how long to wait.
        before: delivers what precedes all of this, from an earlier world.
        keeper: where reports are kept while a process cannot reach this one.
    """

    def __init__(
        self,
        world: World,
        deliver: Callable[[RowBatch], None],
        report: Callable[[Note], None],
        learn: Callable[[Fact], None],
        exchange: Callable[[], Exchange],
        limits: RankTimeouts,
        before: RankCollector | None = None,
        keeper: ReportKeeper | None = None,
    ) -> None:
        self._deliver, self._report, self._limits, self._before = deliver, report, limits, before
        self._exchange = exchange
        self._combiner = RowCombiner(world.size, learn, report)
        self._queue: deque[RankRow] = deque()
        self._bytes_in = self._bytes_out = 0  # each written by one thread
        self._next = 0
        self._closing_s: float | None = None
        self._failed = False
        # ranks already reported missing, or missing in between
        self._said: set[int] = set()
        self._said_between: set[int] = set()
        self._report_server = ReportServer(world, self._say)
        self._all_reports = (
            None if keeper is None else AllReports(keeper, world, self._report_server.training)
        )
        self._thread = threading.Thread(target=self._run, name="seismograd-ranks", daemon=True)
        self._thread.start()

    # Called by the training thread ----------------------------------------------------------------

    def put(self, rank_row: RankRow) -> None:
        """Queue an iteration."""
        if self._failed:
            self._deliver(rank_row.without_shards(self._combiner.ownership.separate))
            return
        self._bytes_in += rank_row.num_bytes()
        self._queue.append(rank_row)

    def begin_close(self) -> None:
        """Stop accepting iterations. Does not wait."""
        self._closing_s = time.monotonic()
        self._report_server.wake()

    def close(self) -> None:
        """Deliver what waits, with the reports of others that have arrived or arrive within the
        limit.
        """
        self.begin_close()
        self._thread.join(self._limits.exit_s + 5)

    def join(self) -> None:
        """Wait until a closing collector has ended."""
        self._thread.join()

    def abandon(self) -> None:
        """Leave the connections to the parent: this is a forked child."""
        self._queue.clear()
        self._report_server.close()

    # On its own thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()
            while self._closing_s is None or self._queue:
                self._report_server.listen(INTERVAL_S, self._next)
                self._look_for_others()
                self._put_together()
        # What rank 0 holds itself is better than no record: it goes out without the others'.
        except Exception as error:
            self._failed = True
            while self._queue:
                self._deliver(
                    self._queue.popleft().without_shards(self._combiner.ownership.separate)
                )
            self._say("failure", failure_message("ranks", error))
        finally:
            self._report_server.close()
            if self._all_reports is not None:
                self._all_reports.close()

    def _put_together(self) -> None:
        """Deliver the iterations that need no further reports."""
        while self._queue:
            rank_row = self._queue[0]
            waiting = [p for p in self._report_server.peers.values() if p.awaited(rank_row.index)]
            if waiting and not self._in_vain(rank_row):
                return
            # Not waited for again before its reports have caught up: it would cost the whole limit
            # at every step.
            for peer in waiting:
                peer.late = True
            self._queue.popleft()
            self._bytes_out += rank_row.num_bytes()
            self._next = rank_row.index + 1
            captured = {
                rank: h
                for rank, peer in self._report_server.peers.items()
                if (h := peer.report(rank_row.index)) is not None
            }
            self._report_missing(rank_row, captured)
            left_out = {rank: left for rank, (_, left, _) in captured.items()}
            views = self._views(rank_row, captured)
            self._keep(views, left_out)
            self._deliver(self._combiner.together(rank_row.row, views, left_out, self._exchange()))
            for peer in self._report_server.peers.values():
                message = peer.leave_out(rank_row.columns, self._combiner.ownership)
                if message is not None:
                    self._report_server.send(peer, message)

    def _in_vain(self, rank_row: RankRow) -> bool:
        now_s = time.monotonic()
        end_s = rank_row.time_s + self._limits.late_s
        if self._closing_s is not None:
            end_s = min(end_s, self._closing_s + self._limits.exit_s)
        # The training of rank 0 goes on while this waits, so memory sets a limit as time does.
        return now_s > end_s or self._bytes_in - self._bytes_out > MAX_BYTES

    def _views(self, rank_row: RankRow, captured: dict[int, RankMessage]) -> list[RankView]:
        columns, sent = rank_row.columns, rank_row.columns.sent()
        views = [RankView(0, columns, sent, rank_row.report(sent, 0))]
        for rank, (columns, left_out, report) in captured.items():
            views.append(RankView(rank, columns, columns.sent(left_out), report))
        return views

    def _look_for_others(self) -> None:
        """Find out which processes that have not come here keep their reports themselves."""
        if self._all_reports is None:
            return
        for peer in self._report_server.peers.values():
            if peer.connection is None and not peer.apart:
                peer.apart = self._all_reports.goes_apart(peer.rank)
                if peer.apart:
                    self._said.discard(peer.rank)  # it was late, and now it is known why

    def _keep(self, views: list[RankView], left_out: dict[int, frozenset[int]]) -> None:
        """Keep the reports where a process does so that has never come here."""
        if self._all_reports is not None:
            is_waiting = any(p.connection is None for p in self._report_server.peers.values())
            self._all_reports.keep(views, left_out, self._exchange(), is_waiting)

    def _report_missing(self, rank_row: RankRow, captured: dict[int, RankMessage]) -> None:
        """Report each missing process once, with the reason as far as it is known."""
        step = int(rank_row.row.steps["iteration"][0])
        for rank, peer in self._report_server.peers.items():
            between = peer.newest > rank_row.index
            said = self._said_between if between else self._said
            if (
                rank not in captured
                and rank not in said
                and (peer.apart or not peer.refused)
                and len(said) < MAX_SAID
            ):
                said.add(rank)
                why = _missing_between(peer, step) if between else _why_missing(peer, step)
                self._say("rank", why, step)

    def _say(self, kind: str, message: Message, iteration: int = -1) -> None:
        self._report(Note(kind, iteration, message))


def _missing_between(peer: PeerRank, step: int) -> Message:
    return say(
        "rank {rank} has reported later steps but not step {step}: what only it holds is not "
        "measured there",
        rank=peer.rank,
        step=step,
    )


def _why_missing(peer: PeerRank, step: int) -> Message:
    rank = peer.rank
    if peer.apart:
        return say(
            "rank {rank} cannot reach rank 0 and keeps a record of its own: what only it holds is "
            "not measured until `seismograd merge` brings them together",
            rank=rank,
        )
    if peer.ended:
        return say(
            "rank {rank} has ended; from step {step} on, what only it holds is not measured",
            rank=rank,
            step=step,
        )
    if peer.gone:
        return say(
            "rank {rank} has disappeared; from step {step} on it is left out, and what only it "
            "holds is not measured",
            rank=rank,
            step=step,
        )
    return say(
        "rank {rank} is late; from step {step} on it is left out until it catches up, and what "
        "only it holds is not measured in the meantime",
        rank=rank,
        step=step,
    )
