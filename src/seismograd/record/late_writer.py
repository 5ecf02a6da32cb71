"""A writer that takes its directory only when there is something to write: of several processes, the one that trains records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from seismograd.record.opening import is_run
from seismograd.record.writer import Writer
from seismograd.schema import Block, Fact, Finding, Note


class LateWriter:
    """A sink that makes a `Writer` with the first iteration, or at the end when nobody else has made one there.

    Args:
        path: the directory of the run.
        make: makes the writer; what it raises goes on to the caller.
        leave: at the end without an iteration, leave the directory to another process even when nobody has taken it.
    """

    def __init__(self, path: Path, make: Callable[[], Writer], leave: bool = False) -> None:
        self._path, self._make, self._leave = path, make, leave
        self._writer: Writer | None = None
        self._early: list[Note | Fact] = []

    def observe(self, block: Block) -> None:
        """Write the iterations."""
        self._opened().observe(block)

    def note(self, note: Note) -> None:
        """Write a note, or keep it until there is somewhere to write it."""
        if self._writer is None:
            self._early.append(note)
        else:
            self._writer.note(note)

    def learn(self, fact: Fact) -> None:
        """Write a fact, or keep it likewise."""
        if self._writer is None:
            self._early.append(fact)
        else:
            self._writer.learn(fact)

    def finding(self, finding: Finding) -> None:
        """Write a finding; see `Writer.finding`."""
        self._opened().finding(finding)

    def conclude(self, findings: Sequence[Finding]) -> None:
        """Write the final list of findings; see `Writer.conclude`."""
        if self._writer is not None:
            self._writer.conclude(findings)

    def close(self) -> None:
        """Finish the run, if it is this process's."""
        if self._writer is None and (self._leave or is_run(self._path)):
            return
        self._opened().close()

    def abandon(self) -> None:
        """Close the files without an end; see `Writer.abandon`."""
        if self._writer is not None:
            self._writer.abandon()

    def _opened(self) -> Writer:
        if self._writer is None:
            self._writer = self._make()
            for early in self._early:
                if isinstance(early, Note):
                    self._writer.note(early)
                else:
                    self._writer.learn(early)
            self._early.clear()
        return self._writer
