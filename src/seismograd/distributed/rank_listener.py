"""Listen for the session of a process among others, and pass on each iteration, alone or combined
with those of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import torch

from seismograd.capture.events import EventName, Listener
from seismograd.capture.loop.error_guard import ErrorGuard, failure_message
from seismograd.distributed.exchanges import ExchangeTracker
from seismograd.distributed.local_backend import LocalBackend
from seismograd.distributed.local_gradients import PreReductionProbe
from seismograd.distributed.rank_row_builder import RankRowBuilder
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.weight_checksum import WeightChecksum
from seismograd.distributed.world import World, WorldTracker
from seismograd.schema import Fact, Note, RowBatch
from seismograd.tensors.shards import ShardTable

if TYPE_CHECKING:
    from seismograd.distributed.collector import RankCollector
    from seismograd.distributed.report_client import ReportClient
    from seismograd.distributed.report_log import ReportKeeper

P = ParamSpec("P")

CHECKSUM_EVERY = 100  # steps
# replicas that nothing keeps in sync diverge at once
EARLY_CHECKSUMS = frozenset({2, 5, *range(10, CHECKSUM_EVERY, 10)})


class RankListener(Listener):
    """Checks at every step whether the process has joined others (`torch.distributed`); until then
    it only passes rows on.

    From then on rank 0 delivers the combined measurements of all, and the others report to rank 0
    and deliver nothing.

    It is a listener of its own because joining is a matter of the process, not of the session's
    loop: the session records a single process in the same way with or without others. All waiting
    for other processes happens on the threads of the collector and the client, never here on the
    training thread.

    Args:
        backend: measures for the session.
        shards: the part of each parameter that this process holds, as the backend has seen it.
        deliver: takes each finished iteration, on the training thread of a single process, on
            another one of rank 0.
        report: takes notes.
        learn: takes facts.
        on_join: called before the process joins others: rows measured alone are delivered alone.
        directory: returns where this process records.
        limits: how long to wait for others.
        keeper: where reports are kept that cannot be sent.
    """

    def __init__(
        self,
        backend: LocalBackend,
        shards: ShardTable,
        deliver: Callable[[RowBatch], None],
        report: Callable[[Note], None],
        learn: Callable[[Fact], None],
        on_join: Callable[[], None],
        limits: RankTimeouts | None = None,
        directory: Callable[[], Path | None] = lambda: None,
        keeper: ReportKeeper | None = None,
    ) -> None:
        self._keeper = keeper
        self._own_directory, self._world = directory, None
        self._backend, self._shards = backend, shards
        self.guard = ErrorGuard(self._report)
        self._deliver, self._report_note, self._on_join = deliver, report, on_join
        self._learn = learn
        self._exchanges = ExchangeTracker()
        self._limits = limits or RankTimeouts.from_environment()
        self._worlds = WorldTracker()
        self._rank = 0
        self.link: RankCollector | ReportClient | None = None
        self._before = PreReductionProbe()
        self._rows = RankRowBuilder(backend, shards)
        self._overhead_s = 0.0
        # Every call of every training would come to this listener, and most trainings have one
        # process: until there is a group of several it hears of nothing.
        self.wakes = self._worlds.group_if_any
        self._has_looked = False  # in a backward since the last step

    @property
    def first(self) -> bool:
        """Return whether this process is the one that records."""
        return self._rank == 0

    @property
    def rank(self) -> int:
        """Return the rank of this process."""
        return self._rank

    @property
    def size(self) -> int:
        """Return how many processes train together."""
        return 1 if self._world is None else self._world.size

    @property
    def directory(self) -> Path | None:
        """Return where rank 0 records, as this process sees it; `None` while that is not known."""
        if self._world is None or self.first:
            return self._own_directory()
        directory = self._world.look_up_directory()
        return None if directory is None else Path(directory)

    def backward_begins(self, tensors: Any) -> None:
        """Check whether the process has joined others, and inspect its gradients before the
        reduction.
        """
        del tensors
        self._exchanges.is_reducing = False
        if self.link is None:
            self._has_looked = True
            if not self._worlds.may_have_joined():
                return
        self._take("backward_begins", self._on_backward_begins)

    def backward_ends(self) -> None:
        """Remove the hooks: the gradients are reduced."""
        self._exchanges.is_reducing = True
        if self.link is not None:
            self._take("backward_ends", self._on_backward_ends)

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """Check whether the process has joined others, and what this optimizer holds."""
        del closure, compiled
        self._exchanges.is_reducing = False
        if self.link is None:
            has_looked, self._has_looked = self._has_looked, False
            if has_looked or not self._worlds.may_have_joined():
                return
        self._take("step_begins", self._on_step_begins, optimizer)

    def collective_ends(
        self, name: str, tensors: list[torch.Tensor], numel: int, in_backward: bool
    ) -> None:
        """Note that the processes exchange activations, as stages and shards do and replicas do
        not.
        """
        del tensors, in_backward
        self._exchanges.collective_ends(name, numel)

    def clip_ends(self, kind: int, limit: object, total: object, is_l2: bool = True) -> None:
        """Note the norm that a clip found over what several processes hold."""
        del kind, limit, is_l2
        if self.link is not None:
            self._take("clip_ends", self._on_clip_ends, total)

    def _take(
        self,
        event: EventName,
        handle: Callable[P, None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Handle one event, after the session has. No exception escapes."""
        began = time.perf_counter()
        self.guard.call(f"ranks.{event}", handle, *args, **kwargs)
        self._overhead_s += time.perf_counter() - began

    def failed(self, event: EventName, error: BaseException) -> None:
        """Note a failure around an event."""
        self.guard.failed(f"ranks.{event}", error)

    def broken_off(self, event: EventName, *args: object) -> None:
        """Remove the hooks: no backward is running now."""
        del args
        if event in ("backward_begins", "backward_ends"):
            self._before.backward_ends()

    @property
    def linked(self) -> bool:
        """Return whether the process has joined others: then each row is sent before the next
        iteration begins.
        """
        return self.link is not None

    def take_overhead(self) -> float:
        """Return the seconds spent here on the training thread since the last call."""
        if self.link is None:
            return 0.0
        spent_s, self._overhead_s = self._overhead_s + self._before.take_overhead(), 0.0
        return spent_s

    def put(self, batch: RowBatch) -> None:
        """Take finished iterations; while linked they come one by one, on the training thread or,
        of a training that pauses, on another one.
        """
        if self.link is None or len(batch) > 1:
            self._shards.take_summands()
            self._deliver(batch)
        else:
            self.link.put(self._rows.build(batch, self._rank, self._before.take()))
            self._backend.checksum = WeightChecksum() if self._sums(self._rows.num_begun) else None

    @staticmethod
    def _sums(step: int) -> bool:
        """Return whether to compute the weight checksum in this step, counted since the processes
        joined.
        """
        return step % CHECKSUM_EVERY == 0 or step in EARLY_CHECKSUMS

    def note(self, note: Note) -> None:
        """Take a note: a process that does not record reports its failures to rank 0."""
        if self.link is None:
            self._report_note(note)
            return
        from seismograd.distributed.report_client import ReportClient

        if not isinstance(self.link, ReportClient):
            self._report_note(note)
        elif note.kind == "failure":
            self.link.note(note.message.render())

    def finish(self) -> None:
        """Wait, up to the limit, for rows under way after the last `put`."""
        self._before.backward_ends()
        if self.link is not None:
            self.link.close()

    def abandon(self) -> None:
        """Leave the connections to the parent: this is a forked child."""
        link, self.link = self.link, None
        if link is not None:
            link.abandon()

    def _look(self) -> None:
        world = self._worlds.joined()
        if world is None:
            return
        # Rows measured alone belong before those of the world, which are counted from 0.
        self._on_join()
        self._join(world)
        self._backend.checksum = WeightChecksum()
        self._rows.begin()
        self._rank = world.rank

    def _join(self, world: World) -> None:
        # Most trainings have one process, which needs none of this.
        from seismograd.distributed.collector import RankCollector
        from seismograd.distributed.report_client import ReportClient

        self._world, self.wakes = world, None
        path = self._own_directory()
        if world.rank == 0 and path is not None and world.store is not None:
            world.publish_directory(str(path.absolute()))
        earlier = self.link
        if earlier is not None:
            earlier.begin_close()
        if world.rank == 0:
            # A collector of an earlier world delivers its last iterations first, so that the record
            # stays in order.
            before = earlier if isinstance(earlier, RankCollector) else None
            self.link = RankCollector(
                world,
                self._deliver,
                self._report_note,
                self._learn,
                self._exchanges.exchange,
                self._limits,
                before,
                self._keeper,
            )
        else:
            self.link = ReportClient(world, self._limits, self._keeper)

    def _on_backward_begins(self) -> None:
        self._look()
        if self.link is not None:
            self._before.backward_begins(self._rows.num_begun)

    def _on_backward_ends(self) -> None:
        self._before.backward_ends()

    def _on_step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        self._look()
        if self.link is not None:
            self._before.learn(optimizer)

    def _on_clip_ends(self, total: object) -> None:
        self._shards.clipped(total)

    def _report(self, part: str, error: BaseException) -> None:
        self.note(Note("failure", -1, failure_message(part, error)))
