"""The outlet of a session: what it passes on, and what it asks of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from seismograd.schema import Fact, Note, RowBatch, SampleBatch


class SessionOutlet(Protocol):
    """Where a session sends its results. Most calls come on a training thread, so they must be
    quick.
    """

    def emit(self, batch: RowBatch) -> None:
        """Take a finished iteration, or several."""
        ...

    def note(self, note: Note) -> None:
        """Take a message."""
        ...

    def learn(self, fact: Fact) -> None:
        """Take a fact."""
        ...

    def sampled(self, batch: SampleBatch) -> None:
        """Take what was sampled in a step, before the step's iteration."""
        ...

    def stepped(self) -> None:
        """Note that the first step was made: rows will come. Called once."""
        ...

    def abandon(self) -> None:
        """Leave everything to the parent: this is a forked child."""
        ...

    @property
    def others(self) -> Sequence[Callable[[], float]]:
        """Return a function for each other listener: it returns the training time in seconds that
        this one took since the last call.
        """
        ...

    @property
    def max_batch_rows(self) -> int:
        """Return how many rows to make at once."""
        ...


class NullOutlet:
    """Drops everything: the outlet of a session that is not connected yet."""

    max_batch_rows = 1
    others: Sequence[Callable[[], float]] = ()

    def emit(self, batch: RowBatch) -> None:
        """Drop the rows."""

    def note(self, note: Note) -> None:
        """Drop the note."""

    def learn(self, fact: Fact) -> None:
        """Drop the fact."""

    def sampled(self, batch: SampleBatch) -> None:
        """Drop what was sampled."""

    def stepped(self) -> None:
        """Do nothing: nobody waits for rows."""

    def abandon(self) -> None:
        """Do nothing: there is nothing to abandon."""
