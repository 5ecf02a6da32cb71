"""The runs in a directory, at a glance."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record import layout
from seismograd.record.compatibility import is_run
from seismograd.record.reader import open_run

QUIET_S = 60.0  # a run that has not ended and wrote nothing for so long is no longer called live


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a list of runs says of one.

    `idle_s` is the time in seconds since something was last written to it: a run that has not ended
    and is quiet was killed. `num_findings` counts by severity what was found while it ran.
    `problem` says why a run cannot be read; the rest is then empty. `torn` says what was begun and
    is not whole: of a run that has ended it was lost since.
    """

    path: Path
    script: str
    created_utc: str
    num_rows: int
    ended: bool
    idle_s: float
    num_findings: Mapping[str, int]
    problem: Message | None = None
    torn: Message | None = None


def list_runs(directory: str | os.PathLike[str]) -> tuple[RunSummary, ...]:
    """The runs in this directory, the earliest first; what is not a run is left out.

    >>> from seismograd.record.run_activity import list_runs
    >>> [(run.script, run.num_rows, dict(run.num_findings)) for run in list_runs("runs")]
    [('train.py', 30, {'error': 1})]

    Raises:
        SeismogradError: the directory is missing or cannot be read.
    """
    try:
        paths = sorted(path for path in Path(directory).iterdir() if is_run(path))
    except OSError as error:
        raise SeismogradError(
            say(
                "{path} cannot be read: {reason}",
                path=str(directory),
                reason=error.strerror or str(error),
            ),
            say(
                "`seismograd run` writes to runs/ where it is started; name another directory if "
                "yours is elsewhere"
            ),
        ) from error
    return tuple(
        sorted((_summary(path) for path in paths), key=lambda run: (run.created_utc, run.path))
    )


def _summary(path: Path) -> RunSummary:
    quiet = idle_s(path)
    try:
        run = open_run(path)
    except SeismogradError as error:
        return RunSummary(path, "", "", 0, False, quiet, {}, error.message)
    found = Counter(finding.severity for finding in run.findings)
    return RunSummary(
        path,
        run.info.script,
        run.info.created_utc,
        len(run.steps),
        run.ended,
        quiet,
        found,
        torn=run.torn,
    )


def is_going_on(path: Path) -> bool:
    """Whether a run has not ended and something was written to it lately."""
    return not (path / layout.END).exists() and idle_s(path) < QUIET_S


def idle_s(path: Path) -> float:
    """Seconds since something was last written to a run."""
    written = [
        (path / name).stat().st_mtime
        for name in (layout.STEPS, layout.META, *layout.LINE_FILES)
        if (path / name).exists()
    ]
    return max(0.0, time.time() - max(written, default=0.0))  # none: it was removed
