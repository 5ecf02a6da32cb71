"""This process among others: hears beside the session, and hands each iteration on, alone or put
together with those of the others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.names.parameter_groups import held_by
from seismograd.distributed.collector import RankCollector
from seismograd.distributed.local_backend import LocalBackend
from seismograd.distributed.local_gradients import PreReductionProbe
from seismograd.distributed.rank_report import RankColumns
from seismograd.distributed.rank_row import RankRow
from seismograd.distributed.report_client import ReportClient
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.weight_checksum import WeightChecksum
from seismograd.distributed.world import World, WorldTracker
from seismograd.i18n import say
from seismograd.measure.backend import MeasuringBackend
from seismograd.schema import RANK_DTYPE, AnyArray, Note, Parameter, RankFlag, RowBatch
from seismograd.tensors.shards import ShardTable

# when it is seen whether the process has joined others
LOOKS = frozenset({"backward_begins", "step_begins"})
CHECKSUM_EVERY = 100  # steps
# replicas that nothing holds together part at once
EARLY_CHECKSUMS = frozenset({2, 5, *range(10, CHECKSUM_EVERY, 10)})


class RankListener:
    """Looks at every step whether the process has joined others (`torch.distributed`); until then
    it only hands on.

    From then on rank 0 delivers what all of them measured, put together, and the others deliver
    nothing: they tell rank 0.

    Args:
        backend: measures; `self.backend` is to be used in its place.
        deliver: takes each finished iteration, on the training thread of a single process, on
            another one of rank 0.
        tell: takes what has words.
        limits: how long to wait for others.
    """

    def __init__(
        self,
        backend: MeasuringBackend,
        deliver: Callable[[RowBatch], None],
        tell: Callable[[Note], None],
        limits: RankTimeouts | None = None,
    ) -> None:
        self._shards = ShardTable()
        self.backend = LocalBackend(backend, self._shards)
        self.guard = ErrorGuard(self._report)
        self.on_join: Callable[[], None] = lambda: None  # what was measured alone goes out alone
        self._deliver, self._tell = deliver, tell
        self._limits = limits or RankTimeouts.from_environment()
        self._worlds = WorldTracker()
        self._rank = 0
        self._link: RankCollector | ReportClient | None = None
        self._before = PreReductionProbe()
        self._num_rows = 0  # since the link
        self._overhead_s = 0.0
        self._warned = False
        self._looked = False  # in the backward just before
        self._columns: RankColumns | None = None
        self._described: tuple[tuple[Parameter, ...], int] = ((), -1)
        self._parts: dict[str, Callable[..., None]] = {
            "backward_begins": self._on_backward_begins,
            "backward_ends": self._on_backward_ends,
            "step_begins": self._on_step_begins,
            "clip_ends": self._on_clip_ends,
        }

    @property
    def first(self) -> bool:
        """Whether this process is the one that records."""
        return self._rank == 0

    def wants(self, part: str) -> bool:
        """Whether it listens to this call at all."""
        return part in self._parts

    def hear(self, part: str, *args: object) -> None:
        """One call from a patch, after the session has heard it. Nothing that goes wrong in here
        comes out.
        """
        if self._link is None:
            looked, self._looked = self._looked, part == "backward_begins"
            if (
                part not in LOOKS
                or (looked and part == "step_begins")
                or not self._worlds.may_have_joined()
            ):
                return
        began = time.perf_counter()
        self.guard.call(f"ranks.{part}", self._parts[part], *args)
        self._overhead_s += time.perf_counter() - began

    def failed(self, part: str, error: BaseException) -> None:
        """A failure around `hear`."""
        self.guard.failed(f"ranks.{part}", error)

    def broken_off(self, part: str, *_: object) -> None:
        """No backward runs now, so nothing is to be looked at in it."""
        if part in ("backward_begins", "backward_ends"):
            self._before.backward_ends()

    @property
    def linked(self) -> bool:
        """Whether the process has joined others: then each row goes out before the next
        iteration begins.
        """
        return self._link is not None

    def take_overhead(self) -> float:
        """Seconds spent here on the training thread since the last call."""
        if self._link is None:
            return 0.0
        spent_s, self._overhead_s = self._overhead_s + self._before.take_overhead(), 0.0
        return spent_s

    def put(self, batch: RowBatch) -> None:
        """Take finished iterations; while linked they come one by one."""
        if self._link is None or len(batch) > 1:
            self._shards.take_summands()
            self._deliver(batch)
        else:
            self._link.put(self._rank_row(batch))
            self._num_rows += 1
            self.backend.checksum = WeightChecksum() if self._sums(self._num_rows) else None

    @staticmethod
    def _sums(step: int) -> bool:
        """Whether the weights are summed in this step, counted since the processes found each
        other.
        """
        return step % CHECKSUM_EVERY == 0 or step in EARLY_CHECKSUMS

    def note(self, note: Note) -> None:
        """Take a note: a process that does not record tells rank 0 of its failures."""
        if isinstance(self._link, ReportClient):
            if note.kind == "failure":
                self._link.note(note.message.render())
        else:
            self._tell(note)

    def finish(self) -> None:
        """Everything was put: wait for what is under way, not longer than the limit."""
        self._before.backward_ends()
        if self._link is not None:
            self._link.close()

    def abandon(self) -> None:
        """In a forked child: leave the parent's connections to it."""
        link, self._link = self._link, None
        if link is not None:
            link.abandon()

    def _look(self) -> None:
        world = self._worlds.joined()
        if world is None:
            return
        self.on_join()
        self._join(world)
        self.backend.checksum = WeightChecksum()
        self._num_rows = 0
        self._rank = world.rank

    def _join(self, world: World) -> None:
        earlier = self._link
        if earlier is not None:
            earlier.begin_close()
        if world.rank == 0:
            before = earlier if isinstance(earlier, RankCollector) else None
            self._link = RankCollector(world, self._deliver, self._tell, self._limits, before)
        else:
            self._link = ReportClient(world, self._limits)

    def _on_backward_begins(self, _: object) -> None:
        self._look()
        if self._link is not None:
            self._before.backward_begins(self._num_rows)

    def _on_backward_ends(self) -> None:
        self._before.backward_ends()

    def _on_step_begins(self, optimizer: torch.optim.Optimizer, *_: bool) -> None:
        self._look()
        if self._link is not None:
            self._before.learn(optimizer)
            self._warn_of_flat(optimizer)

    def _warn_of_flat(self, optimizer: torch.optim.Optimizer) -> None:
        """The first FullyShardedDataParallel hides which part of a parameter a process has."""
        if self._warned:
            return
        parameters = held_by(optimizer)
        if not any(
            getattr(p, "_fsdp_flattened", False) or getattr(p, "_is_flat_param", False)
            for p in parameters[:1]
        ):
            return
        self._warned = True
        self._tell(
            Note(
                "ranks",
                -1,
                say(
                    "FullyShardedDataParallel: only what rank 0 holds is measured; with "
                    "fully_shard all of it would be"
                ),
            )
        )

    def _on_clip_ends(self, _kind: int, _limit: object, total: object) -> None:
        self._shards.clipped(total)

    def _rank_row(self, row: RowBatch) -> RankRow:
        order = (
            self._shards.take_clip_order()
            if not math.isnan(float(row.steps["clip_norm"][0]))
            else math.nan
        )
        columns, summands = self._described_columns(row.parameters), self._shards.take_summands()
        rank = self._entry(row.steps[0])
        return RankRow(self._num_rows, row, columns, rank, order, time.monotonic(), summands)

    def _described_columns(self, parameters: tuple[Parameter, ...]) -> RankColumns:
        described, version = self._described
        if self._columns is None or described is not parameters or version != self._shards.version:
            number = 0 if self._columns is None else self._columns.version + 1
            self._columns = RankColumns(number, parameters, self._shards.of(len(parameters)))
            self._described = (parameters, self._shards.version)
        return self._columns

    def _entry(self, step: AnyArray) -> AnyArray:
        entry: Any = np.zeros((), RANK_DTYPE)
        entry["rank"], entry["replica_of"] = self._rank, -1
        entry["iteration"], entry["loss"], entry["grad_norm"] = (
            step["iteration"],
            step["loss"],
            step["grad_norm"],
        )
        entry["local_norm"] = math.nan
        flags = RankFlag.NONE
        local = self._before.take()
        if local is not None:
            flags |= RankFlag.LOCAL | (RankFlag.LOCAL_ALL if local.all else RankFlag.NONE)
            entry["local_norm"] = local.norm if math.isfinite(local.norm) else math.nan
            entry["local_nonfinite"] = local.nonfinite
        if self.backend.checksum is not None:
            flags |= RankFlag.CHECKSUM
            entry["weight_checksum"] = np.uint64(self.backend.checksum.value())
        entry["flags"] = int(flags)
        return entry

    def _report(self, part: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        self.note(
            Note(
                "failure",
                -1,
                say(
                    "a part of seismograd failed and was left out: {part}: {error}",
                    part=part,
                    error=text,
                ),
            )
        )
