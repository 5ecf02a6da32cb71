"""What a session hands on, and what it asks of those that work beside it."""

from __future__ import annotations

from typing import Protocol

from seismograd.schema import Fact, Note, Row, Rows


class SessionOutlet(Protocol):
    """Where a session sends what it has made. All of it is called on a thread that trains, so it
    must be quick.
    """

    def emit(self, row: Row | Rows) -> None:
        """Take a finished iteration, or several."""
        ...

    def note(self, note: Note) -> None:
        """Take what has words."""
        ...

    def learn(self, fact: Fact) -> None:
        """Take what is known for certain beside the numbers."""
        ...

    def stepped(self) -> None:
        """The first step was made: rows will come. Called once."""
        ...

    def abandon(self) -> None:
        """This is a forked child: leave everything to the parent."""
        ...

    def take_overhead(self) -> float:
        """Return the seconds that what listens beside the session took of the training since the
        last call.
        """
        ...

    @property
    def max_batch_rows(self) -> int:
        """How many rows to make at once."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether an iteration may end before the next one begins; where several processes train
        together, all must cut theirs alike.
        """
        ...


class NullOutlet:
    """Drops everything: the outlet of a session that is not connected yet."""

    max_batch_rows = 1
    is_alone = True

    def emit(self, row: Row | Rows) -> None:
        """Drop the row."""

    def note(self, note: Note) -> None:
        """Drop the note."""

    def learn(self, fact: Fact) -> None:
        """Drop the fact."""

    def stepped(self) -> None:
        """Nobody waits for rows."""

    def abandon(self) -> None:
        """Nothing is held."""

    def take_overhead(self) -> float:
        """Nothing works beside the session."""
        return 0.0
