"""Where the reports of several processes are kept that could not be sent to rank 0: those of a
process in a record of its own, with no steps, and on rank 0 all others in its record.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record.report_file import ReportFile
from seismograd.record.run_directory import create_run_directory
from seismograd.record.writer import Writer
from seismograd.schema import APART, Note, RunInfo
from seismograd.settings.record_settings import RecordSettings


class RunReports:
    """Makes the files of reports as they are needed.

    Args:
        path: returns where this process records, `None` where it does not.
        base: the directory of the run as it was asked for; one beside it is that of this process.
        info: what is known of the run before its first step.
        settings: how it is written.
    """

    def __init__(
        self,
        path: Callable[[], Path | None],
        base: Path | None,
        info: RunInfo,
        settings: RecordSettings,
    ) -> None:
        self._path, self._base, self._info, self._settings = path, base, info, settings
        self._writer: Writer | None = None
        self.message: Message | None = None

    def beside(self, rank: int) -> ReportFile | None:
        """Return the file of a process in the record of this one, which is rank 0."""
        path = self._path()
        return None if path is None else ReportFile(path, rank, self._settings.max_bytes)

    def apart(self, rank: int, size: int) -> ReportFile | None:
        """Return the file of this process in a record of its own.

        Raises:
            SeismogradError: that cannot be written.
            OSError: likewise.
        """
        if self._base is None:
            return None
        path = create_run_directory(_free(path_of_rank(self._base, rank)), self._info.script)
        self._writer = Writer(path, self._info, self._settings)
        said = say(
            "rank {rank} of {size} could not reach rank 0: what it measured is here, and "
            "`seismograd merge` brings it into the record of rank 0",
            rank=rank,
            size=size,
        )
        self._writer.note(Note(APART, -1, said))
        self.message = say(
            "rank {rank} could not reach rank 0, so what it measured is in {path}; seismograd "
            "merge brings it into the record of rank 0",
            rank=rank,
            path=str(path),
        )
        return ReportFile(path, rank, self._settings.max_bytes)

    def close(self) -> None:
        """End the record of this process, if there is one."""
        if self._writer is not None:
            with suppress(OSError, SeismogradError):
                self._writer.close()


def path_of_rank(base: Path, rank: int) -> Path:
    """Return the directory of one of several processes beside that of their run."""
    return base.with_name(f"{base.name}-rank-{rank}")


def _free(path: Path) -> Path:
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.name}-{number}")
        if not free.exists():
            return free
    raise AssertionError("endless")
