"""Combine the reports of all processes for each iteration, in a thread on rank 0."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from seismograd.capture.loop.error_guard import failure_message
from seismograd.distributed.combine import combine
from seismograd.distributed.combine_plan import CombinePlan, make_plan
from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.ownership import Ownership, RankView
from seismograd.distributed.ownership_facts import OwnershipFacts
from seismograd.distributed.peer import PeerRank
from seismograd.distributed.rank_report import RankColumns, RankReport
from seismograd.distributed.rank_row import RankRow
from seismograd.distributed.report_server import ReportServer
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.world import World
from seismograd.i18n import Message, say
from seismograd.schema import RANK_DTYPE, AnyArray, Fact, Note, RankFlag, RowBatch

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
    ) -> None:
        self._deliver, self._report, self._limits, self._before = deliver, report, limits, before
        self._exchange = exchange
        self._ownership, self._ownership_facts = Ownership(), OwnershipFacts(learn, report)
        self._queue: deque[RankRow] = deque()
        self._bytes_in = self._bytes_out = 0  # each written by one thread
        self._next = 0
        self._closing_s: float | None = None
        self._plans: dict[object, CombinePlan] = {}  # the last one
        self._failed = False
        # ranks already reported missing, or missing in between
        self._said: set[int] = set()
        self._said_between: set[int] = set()
        self._report_server = ReportServer(world, self._say)
        self._thread = threading.Thread(target=self._run, name="seismograd-ranks", daemon=True)
        self._thread.start()

    # Called by the training thread ----------------------------------------------------------------

    def put(self, rank_row: RankRow) -> None:
        """Queue an iteration."""
        if self._failed:
            self._deliver(rank_row.without_shards(self._ownership.separate))
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
                self._put_together()
        # What rank 0 holds itself is better than no record: it goes out without the others'.
        except Exception as error:
            self._failed = True
            while self._queue:
                self._deliver(self._queue.popleft().without_shards(self._ownership.separate))
            self._say("failure", failure_message("ranks", error))
        finally:
            self._report_server.close()

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
            self._deliver(self._together(rank_row, captured))
            for peer in self._report_server.peers.values():
                message = peer.leave_out(rank_row.columns, self._ownership)
                if message is not None:
                    self._report_server.send(peer, message)

    def _in_vain(self, rank_row: RankRow) -> bool:
        now_s = time.monotonic()
        end_s = rank_row.time_s + self._limits.late_s
        if self._closing_s is not None:
            end_s = min(end_s, self._closing_s + self._limits.exit_s)
        # The training of rank 0 goes on while this waits, so memory sets a limit as time does.
        return now_s > end_s or self._bytes_in - self._bytes_out > MAX_BYTES

    def _together(self, rank_row: RankRow, captured: dict[int, RankMessage]) -> RowBatch:
        left_out = {rank: left for rank, (_, left, _) in captured.items()}
        columns = (rank_row.columns, *(theirs for theirs, _, _ in captured.values()))
        ranks = (0, *captured)
        sent = tuple(
            c.sent(left_out.get(rank, frozenset())) for rank, c in zip(ranks, columns, strict=True)
        )
        reports = (
            rank_row.report(sent[0], 0),
            *(report for _, _, report in captured.values()),
        )
        views = tuple(map(RankView, ranks, columns, sent, reports))
        if self._ownership.learn(views, self._exchange()):
            self._ownership_facts.report(self._ownership, int(rank_row.row.steps["iteration"][0]))
        key = (
            self._ownership.version,
            *(
                (rank, c.version, left_out.get(rank, frozenset()))
                for rank, c in zip(ranks, columns, strict=True)
            ),
        )
        # Columns and who holds what change seldom, and then for good: the last plan is enough.
        plan = self._plans.get(key)
        if plan is None:
            self._plans = {key: (plan := make_plan(ranks, columns, sent, self._ownership))}
        return combine(plan, reports, rank_row.row, self._ranks(rank_row, plan, views))

    def _ranks(self, rank_row: RankRow, plan: CombinePlan, views: tuple[RankView, ...]) -> AnyArray:
        ranks = np.zeros(1 + len(self._report_server.peers), RANK_DTYPE)
        ranks["rank"] = np.arange(len(ranks))
        ranks["replica_of"] = -1
        for name in ("loss", "grad_norm", "local_norm", "clip_norm", "clip_coefficient"):
            ranks[name] = np.nan
        for view, replica_of in zip(views, plan.replica_of, strict=True):
            ranks[view.rank] = view.report.rank
            ranks["replica_of"][view.rank] = replica_of
            ranks["weight_checksum"][view.rank] = self._ownership.in_sync(view)
            ranks["flags"][view.rank] |= RankFlag.REPORTED
        ranks["rank"] = np.arange(len(ranks))
        ranks["iteration"] = rank_row.row.steps["iteration"][0]
        return ranks

    def _report_missing(self, rank_row: RankRow, captured: dict[int, RankMessage]) -> None:
        """Report each missing process once, with the reason as far as it is known."""
        step = int(rank_row.row.steps["iteration"][0])
        for rank, peer in self._report_server.peers.items():
            between = peer.newest > rank_row.index
            said = self._said_between if between else self._said
            if (
                rank not in captured
                and rank not in said
                and not peer.refused
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
