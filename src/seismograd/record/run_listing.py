"""List the runs in a directory, including those that cannot be read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from seismograd.errors import SeismogradError, unreadable
from seismograd.i18n import Message
from seismograd.record.layout import META
from seismograd.record.reader import Run, open_run
from seismograd.record.run_claim import STARTED

NO_PROBLEM = Message("")


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A directory that looks like a run: the run, or why it cannot be read."""

    path: Path
    run: Run | None
    problem: Message = NO_PROBLEM

    @property
    def created_utc(self) -> str:
        """Return when it began; empty when it cannot be read."""
        return self.run.info.created_utc if self.run else ""


def list_runs(directory: str | os.PathLike[str]) -> list[ListedRun]:
    """List the runs directly inside a directory, the newest first; anything else is skipped.

    >>> from seismograd.record.run_listing import list_runs
    >>> [(each.path.name, each.run.num_rows, each.run.ended) for each in list_runs("runs")]
    [('20260102T030405Z-train', 30, True)]
    """
    listed = [
        open_listed(path)
        for path in sorted(Path(directory).iterdir(), reverse=True)
        if os.path.lexists(path / META) or os.path.lexists(path / STARTED)
    ]
    return sorted(listed, key=lambda each: each.created_utc, reverse=True)


def open_listed(path: Path) -> ListedRun:
    """Open a listed run, or return why it cannot be read: a damaged run never hides the others."""
    try:
        return ListedRun(path, open_run(path))
    except SeismogradError as error:
        return ListedRun(path, None, error.message)
    except Exception as error:
        return ListedRun(path, None, unreadable(path, error).message)
