"""A run as a whole, the messages about it, and the interface of its sinks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from seismograd.i18n import Message
from seismograd.schema.facts import Fact
from seismograd.schema.row_batch import RowBatch
from seismograd.schema.samples import SampleBatch


@dataclass(frozen=True, slots=True)
class Note:
    """A message about a single incident: a failure of ours, thinning, an element that does not
    exist, an exception that ended the training (`ENDINGS`).

    Rules read notes of kind `"tail"`: `count` backwards at the end that `optimizer` never used, the
    last of them at `where`.
    """

    kind: str
    iteration: int
    message: Message
    count: int = 0
    optimizer: int = -1
    where: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known of a run before its first step. `fact_kinds`: the kinds of facts that are
    looked for.
    """

    script: str
    created_utc: str  # ISO 8601
    seismograd_version: str
    torch_version: str
    python_version: str
    level: str
    every: int
    elements: tuple[str, ...] = ()
    fact_kinds: tuple[str, ...] = ()


ENDINGS = ("halted", "crashed", "failed", "interrupted")
"""The kinds of notes about a training that did not come to its own end."""

APART = "apart"
"""The kind of the note in a record that only keeps the reports of one of several processes."""


class RunState(StrEnum):
    """The progress of a recorded run."""

    LIVE = "live"
    ENDED = "ended"
    BROKEN = "broken"  # killed, or idle for so long that it must have been

    @classmethod
    def of(cls, ended: bool, going_on: bool) -> RunState:
        """Decide from the record first: whether a run `ended` is written in it; that it is
        `going_on` is guessed from the clock, perhaps before the end was read.
        """
        return cls.ENDED if ended else cls.LIVE if going_on else cls.BROKEN


class Sink(Protocol):
    """A consumer of a session's measurements, in order, from one thread."""

    def observe(self, batch: RowBatch, /) -> None:
        """Take the next iterations."""
        ...

    def note(self, note: Note) -> None:
        """Take a note."""
        ...

    def learn(self, fact: Fact) -> None:
        """Take a fact; it comes before the iteration in which it was seen."""
        ...

    def sampled(self, batch: SampleBatch) -> None:
        """Take what was sampled in a step; it comes before the iteration, likewise."""
        ...

    def close(self) -> None:
        """End the run; nothing comes after this."""
        ...

    def abandon(self) -> None:
        """Release everything: the sink failed and gets nothing more."""
        ...
