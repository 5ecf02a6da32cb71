"""The outlet of a session: what it passes on, and what it asks of its surroundings."""

from __future__ import annotations

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

    def take_overhead(self) -> float:
        """Return the training time in seconds that other listeners took since the last call."""
        ...

    @property
    def max_batch_rows(self) -> int:
        """Return how many rows to make at once."""
        ...


class NullOutlet:
    """Drops everything: the outlet of a session that is not connected yet."""

    max_batch_rows = 1

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

    def take_overhead(self) -> float:
        """Return 0: no other part is at work."""
        return 0.0
