"""Write the files of rows of a segment: one for the states and for each statistic, and the log of
their checksums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from seismograd.record import layout
from seismograd.record.append_file import sync_file
from seismograd.record.checksums import CheckedFile, ChecksumWriter


class RawWriter:
    """The files in a directory, those of statistics by the names of these; `checked` are
    the columns of their log.
    """

    def __init__(self, path: Path, statistics: Iterable[str], checked: Sequence[str]) -> None:
        path.mkdir(parents=True)
        self.path = path
        self.checks = ChecksumWriter(path, checked)
        self._files: dict[str, CheckedFile] = {}
        for name in (layout.STATE, layout.SAMPLE_ROWS):
            self._files[name] = CheckedFile(path, name, self.checks)
        self.create(statistics)

    def create(self, statistics: Iterable[str]) -> None:
        """Create the files of statistics, as far as there are none."""
        for name in statistics:
            if name not in self._files:
                file = layout.statistic_file(layout.STATISTIC_BY_NAME[name])
                self._files[name] = CheckedFile(self.path, file, self.checks)

    def write(self, name: str, data: memoryview) -> None:
        """Append to a file."""
        self._files[name].write(data)

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        for file in self._files.values():
            file.sync()
        self.checks.sync()
        sync_file(self.path)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self.checks.close()
