"""The outlet of the session of a run: past the halter and the other ranks to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seismograd.pipeline.pump import Pump
from seismograd.schema import Fact, Note, RowBatch, SampleBatch

if TYPE_CHECKING:
    from seismograd.capture.guard.update_guard import UpdateGuard
    from seismograd.capture.snapshots.snapshot_listener import SnapshotListener
    from seismograd.distributed.rank_listener import RankListener
    from seismograd.pipeline.halt import TrainingHalter

# Where nobody waits for each: most of what several cost is that the code for them has left the
# caches since the last ones.
MAX_BATCH_ROWS = 256


class RunOutlet:
    """The outlet of the session: past the halter and the other ranks to the pipeline.

    Args:
        ranks: combines iterations with those of other processes.
        pump: hands them to the sinks.
        halter: judges each iteration by itself; `None` where nothing stops the training.
        acting: listeners beside the session that take time of the training.
        is_recorded: whether this process may record.
    """

    def __init__(
        self,
        ranks: RankListener,
        pump: Pump,
        halter: TrainingHalter | None,
        acting: Sequence[UpdateGuard | SnapshotListener],
        is_recorded: bool,
    ) -> None:
        self._ranks, self._pump, self._halter = ranks, pump, halter
        acting_too = acting if halter is None else (halter, *acting)
        self.others = [each.take_overhead for each in acting_too]
        self._is_recorded = is_recorded
        self.is_abandoned = False

    def emit(self, batch: RowBatch) -> None:
        """Hand on a finished iteration, or several."""
        if self._halter is not None:
            self._halter.observe(batch)
        self._ranks.put(batch)

    def note(self, note: Note) -> None:
        """Hand on a note: a process that does not record sends its failures to rank 0."""
        self._ranks.note(note)

    def learn(self, fact: Fact) -> None:
        """Hand on a fact."""
        if self._halter is not None:
            self._halter.learn(fact)
        self._pump.learn(fact)

    def sampled(self, batch: SampleBatch) -> None:
        """Hand on what was sampled in a step."""
        if self._halter is not None:
            self._halter.sampled(batch)
        self._pump.sampled(batch)

    def stepped(self) -> None:
        """Start looking for rows."""
        if self._is_recorded or self._ranks.linked:
            self._pump.begin()

    def abandon(self) -> None:
        """Forget everything and touch no file: this is a forked child."""
        self.is_abandoned = True
        self._pump.abandon()

    def joined(self) -> None:
        """Note that this process trains with others: now the ranks take time, too."""
        if self._ranks.take_overhead not in self.others:
            self.others.append(self._ranks.take_overhead)

    @property
    def max_batch_rows(self) -> int:
        """Return how many rows to make at once: one where each is awaited."""
        return 1 if self._halter is not None or self._ranks.linked else MAX_BATCH_ROWS
