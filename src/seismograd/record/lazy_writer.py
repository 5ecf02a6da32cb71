"""Create the run's directory only when there is something to write: of several processes, the one
that trains records.

Where several train independently, the first takes the directory, and each other one a directory
next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.record.compatibility import is_recorded
from seismograd.record.run_claim import STARTED, release
from seismograd.record.run_directory import path_of_process
from seismograd.record.writer import Writer
from seismograd.schema import Conclusion, Fact, Finding, Note, RowBatch, SampleBatch


class LazyWriter:
    """A sink that makes a `Writer` with the first iteration, or at the end when no other process
    has made one there.

    Args:
        path: the directory of the run.
        make: makes the writer in a directory; its exceptions go on to the caller, unless another
            process has taken that directory.
        leave: at the end without an iteration, leave the directory to another process even when
            nobody has taken it.
    """

    def __init__(self, path: Path, make: Callable[[Path], Writer], leave: bool = False) -> None:
        self._path, self._make, self._leave = path, make, leave
        self._writer: Writer | None = None
        self._early: list[Note | Fact | SampleBatch] = []

    @property
    def path(self) -> Path:
        """Return where it writes, or would."""
        return self._path if self._writer is None else self._writer.path

    @property
    def is_writing(self) -> bool:
        """Return whether it has begun to write."""
        return self._writer is not None

    def observe(self, block: RowBatch) -> None:
        """Write the iterations."""
        self._opened().observe(block)

    def note(self, note: Note) -> None:
        """Write a note, or keep it until there is a writer."""
        if self._writer is None:
            self._early.append(note)
        else:
            self._writer.note(note)

    def learn(self, fact: Fact) -> None:
        """Write a fact, or keep it until there is a writer."""
        if self._writer is None:
            self._early.append(fact)
        else:
            self._writer.learn(fact)

    def sampled(self, batch: SampleBatch) -> None:
        """Write what was sampled, or keep it until there is a writer."""
        if self._writer is None:
            self._early.append(batch)
        else:
            self._writer.sampled(batch)

    def finding(self, finding: Finding) -> None:
        """Write a finding; see `Writer.finding`."""
        self._opened().finding(finding)

    def conclude(self, conclusion: Conclusion) -> None:
        """Write the conclusion of the rules; see `Writer.conclude`."""
        if self._writer is not None:
            self._writer.conclude(conclusion)

    def close(self) -> None:
        """Finish the run, if this process records it. The directory is of this program alone
        (`run_claim`): what is there, a process of it has recorded.
        """
        if self._writer is None and (self._leave or is_recorded(self._path)):
            return
        self._opened().close()

    def go_on(self, writer: Writer) -> None:
        """Write into a record that is there, in place of the directory of this one."""
        assert self._writer is None
        if writer.path != self._path:
            release(self._path)
        self._path = writer.path
        self._begin(writer)

    def leave(self) -> None:
        """Leave the record to another process, which writes elsewhere."""
        if self._writer is None:
            self._leave = True
            release(self._path)

    def abandon(self) -> None:
        """Close the files without an end; see `Writer.abandon`."""
        if self._writer is not None:
            self._writer.abandon()

    def _opened(self) -> Writer:
        if self._writer is None:
            self._begin(self._first_free())
        assert self._writer is not None
        return self._writer

    def _begin(self, writer: Writer) -> None:
        """Write what has been kept."""
        self._writer = writer
        for early in self._early:
            if isinstance(early, Note):
                writer.note(early)
            elif isinstance(early, Fact):
                writer.learn(early)
            else:
                writer.sampled(early)
        self._early.clear()

    def _first_free(self) -> Writer:
        for number in count(1):
            path = self._path if number == 1 else path_of_process(self._path, number)
            if number > 1 and (path / STARTED).exists():  # of another program with this directory
                continue
            try:
                return self._make(path)
            except SeismogradError as error:
                if not isinstance(error.__cause__, FileExistsError) or not path.is_dir():
                    raise
        raise AssertionError("endless")


def paths_of_others(path: Path) -> Iterator[Path]:
    """Yield the runs of the other processes, in the order in which they came."""
    for number in count(2):
        other = path_of_process(path, number)
        if not is_recorded(other):
            return
        yield other
