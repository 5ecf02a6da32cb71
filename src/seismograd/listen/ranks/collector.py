"""Rank 0: puts each iteration together from what all processes have said of it, on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from seismograd.i18n import Message, say
from seismograd.listen.ranks.combine import Plan, combine, make_plan
from seismograd.listen.ranks.ear import Ear
from seismograd.listen.ranks.item import Item
from seismograd.listen.ranks.limits import Limits
from seismograd.listen.ranks.peer import Peer
from seismograd.listen.ranks.report import Columns, Report
from seismograd.listen.ranks.world import World
from seismograd.schema import RANK_DTYPE, AnyArray, Note, RankFlag, Row

MAX_BYTES = 32 * 2**20  # of iterations that wait for others
MAX_SAID = 16  # ranks of which it is said that they are missing
INTERVAL_S = 0.2
Heard = tuple[Columns, frozenset[int], Report]


class Collector:
    """Takes the iterations of rank 0, waits for the others up to a limit, and delivers them in order.

    Args:
        world: the processes.
        deliver: called with each iteration when it is put together.
        tell: called with what has words.
        limits: how long to wait.
        before: delivers what comes before all of this, from an earlier world.
    """

    def __init__(
        self,
        world: World,
        deliver: Callable[[Row], None],
        tell: Callable[[Note], None],
        limits: Limits,
        before: Collector | None = None,
    ) -> None:
        self._deliver, self._tell, self._limits, self._before = deliver, tell, limits, before
        self._queue: deque[Item] = deque()
        self._bytes_in = self._bytes_out = 0  # each written by one thread
        self._next = 0
        self._closing_s: float | None = None
        self._plans: dict[object, Plan] = {}  # the last one
        self._failed = False
        self._said: set[int] = set()  # ranks of whom it was said that they are missing
        self._ear = Ear(world, self._say)
        self._thread = threading.Thread(target=self._run, name="seismograd-ranks", daemon=True)
        self._thread.start()

    # What the training thread calls --------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Take an iteration."""
        if self._failed:
            self._deliver(item.without_shards())
            return
        self._bytes_in += item.num_bytes()
        self._queue.append(item)

    def begin_close(self) -> None:
        """Nothing comes any more. Does not wait."""
        self._closing_s = time.monotonic()
        self._ear.wake()

    def close(self) -> None:
        """Deliver what waits, with what the others have said until then or say within the limit."""
        self.begin_close()
        self._thread.join(self._limits.exit_s + 5)

    def join(self) -> None:
        """Wait for the end of a collector that is closing."""
        self._thread.join()

    def abandon(self) -> None:
        """In a forked child: leave the parent's connections to it."""
        self._queue.clear()
        self._ear.close()

    # What its thread does -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()
            while self._closing_s is None or self._queue:
                self._ear.listen(INTERVAL_S, self._next)
                self._put_together()
        except Exception as error:
            self._failed = True
            while self._queue:
                self._deliver(self._queue.popleft().without_shards())
            text = f"{type(error).__name__}: {error}"
            self._say("failure", say("a part of seismograd failed and was left out: {part}: {error}", part="ranks", error=text))
        finally:
            self._ear.close()

    def _put_together(self) -> None:
        """Deliver the iterations that nobody more has to be waited for."""
        while self._queue:
            item = self._queue[0]
            waiting = [p for p in self._ear.peers.values() if p.awaited(item.index)]
            if waiting and not self._in_vain(item):
                return
            for peer in waiting:
                peer.late = True
            self._queue.popleft()
            self._bytes_out += item.num_bytes()
            self._next = item.index + 1
            heard = {rank: h for rank, peer in self._ear.peers.items() if (h := peer.report(item.index)) is not None}
            self._say_missing(item, heard)
            self._deliver(self._together(item, heard))
            for peer in self._ear.peers.values():
                message = peer.leave_out(item.columns)
                if message is not None:
                    self._ear.say(peer, message)

    def _in_vain(self, item: Item) -> bool:
        now_s = time.monotonic()
        end_s = item.time_s + self._limits.late_s
        if self._closing_s is not None:
            end_s = min(end_s, self._closing_s + self._limits.exit_s)
        return now_s > end_s or self._bytes_in - self._bytes_out > MAX_BYTES

    def _together(self, item: Item, heard: dict[int, Heard]) -> Row:
        left_out = {rank: left for rank, (_, left, _) in heard.items()}
        columns = (item.columns, *(theirs for theirs, _, _ in heard.values()))
        key = tuple((rank, c.version, left_out.get(rank, frozenset())) for rank, c in zip((0, *heard), columns, strict=True))
        plan = self._plans.get(key)
        if plan is None:
            sent = (columns[0].sent(), *(c.sent(left_out[rank]) for rank, c in zip(heard, columns[1:], strict=True)))
            self._plans = {key: (plan := make_plan((0, *heard), columns, sent))}
        reports = (item.report(item.columns.sent(), 0), *(report for _, _, report in heard.values()))
        return combine(plan, reports, item.row, self._ranks(item, heard, plan, reports))

    def _ranks(self, item: Item, heard: dict[int, Heard], plan: Plan, reports: tuple[Report, ...]) -> AnyArray:
        ranks = np.zeros(1 + len(self._ear.peers), RANK_DTYPE)
        ranks["rank"] = np.arange(len(ranks))
        ranks["replica_of"] = -1
        for name in ("loss", "grad_norm", "local_norm"):
            ranks[name] = np.nan
        for rank, report, replica_of in zip((0, *heard), reports, plan.replica_of, strict=True):
            ranks[rank] = report.rank
            ranks["replica_of"][rank] = replica_of
            ranks["flags"][rank] |= RankFlag.REPORTED
        ranks["rank"] = np.arange(len(ranks))
        ranks["iteration"] = item.row.step["iteration"]
        return ranks

    def _say_missing(self, item: Item, heard: dict[int, Heard]) -> None:
        """Say once of each process that it is missing, and why as far as that is known."""
        step = int(item.row.step["iteration"])
        for rank, peer in self._ear.peers.items():
            if rank not in heard and rank not in self._said and not peer.refused and len(self._said) < MAX_SAID:
                self._said.add(rank)
                self._say("rank", _why_missing(peer, step), step)

    def _say(self, kind: str, message: Message, iteration: int = -1) -> None:
        self._tell(Note(kind, iteration, message))


def _why_missing(peer: Peer, step: int) -> Message:
    rank = peer.rank
    if peer.ended:
        return say("rank {rank} has ended; from step {step} on what it alone held is not measured", rank=rank, step=step)
    if peer.gone:
        return say("rank {rank} is gone; from step {step} on it is left out, and what it alone held is not measured", rank=rank, step=step)
    return say(
        "rank {rank} was late; from step {step} on it is left out while it is, and what it alone held is not measured", rank=rank, step=step
    )
