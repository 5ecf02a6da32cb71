"""A run as a whole, what is said of it in words, and who takes what it measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from seismograd.i18n import Message
from seismograd.schema.facts import Fact
from seismograd.schema.row_batch import RowBatch


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened once and has words: a failure of ours, thinning, an element that does
    not exist, the end.

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
    listened for.
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


class Sink(Protocol):
    """Where a session sends what it measured, in order, from one thread."""

    def observe(self, batch: RowBatch, /) -> None:
        """Take the next iterations."""
        ...

    def note(self, note: Note) -> None:
        """Take a note."""
        ...

    def learn(self, fact: Fact) -> None:
        """Take a fact; it comes before the iteration in which it was seen."""
        ...

    def close(self) -> None:
        """The run is over; nothing comes after this."""
        ...

    def abandon(self) -> None:
        """It failed and gets nothing more: let go of what is held."""
        ...
