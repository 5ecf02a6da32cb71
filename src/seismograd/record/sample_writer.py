"""Append what was sampled: the rows of each kind to a file of their own, then the batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.append_file import AppendFile
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.checksums import CheckedFile, ChecksumWriter
from seismograd.record.line_documents import subject_from_json, subject_to_json
from seismograd.record.recorded_files import file_size
from seismograd.record.recorded_lines import read_lines
from seismograd.record.seals import dumps_sealed
from seismograd.schema import (
    SAMPLE_BATCH_DTYPE,
    SampleBatch,
    SampleKind,
    SampleSubject,
    sample_dtype,
)
from seismograd.schema.samples import to_entries


class SampleWriter:
    """Writes samples into a run. A subject is written once and then pointed to by its number; a
    batch counts once its entry in the index is there, which comes last.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, AppendFile] = {}
        self._checks: ChecksumWriter | None = None
        self._numbers: dict[SampleSubject, int] = {}
        self._num_rows: dict[SampleKind, int] = {}
        self._goes_on = False

    def go_on(self, checked: CheckedRanges) -> None:
        """Go on with samples that are there and whole, if there are any."""
        if not checked.exists:
            return
        self._goes_on = True
        ends = [checked.end(name) or 0 for name in checked.names]
        self._checks = ChecksumWriter(self._path / layout.SAMPLES, checked.names, ends)
        lines = read_lines(self._path / layout.SUBJECTS, subject_from_json, 0, True).values
        self._numbers = {subject: number for number, subject in enumerate(lines)}
        for kind in SampleKind:
            size = file_size(self._path / layout.sample_file(kind)) or 0
            self._num_rows[kind] = size // sample_dtype(kind).itemsize

    def append(self, batch: SampleBatch) -> None:
        """Append a batch; raises `OSError` when the disk rejects it."""
        if self._checks is None:
            (self._path / layout.SAMPLES).mkdir(exist_ok=True)
            self._checks = ChecksumWriter(self._path / layout.SAMPLES, layout.CHECKED_OF_SAMPLES)
        entries = to_entries(batch, self._numbers_of(batch.subjects))
        self._file(layout.sample_file(batch.kind)).write(layout.raw(entries))
        num_rows = self._num_rows.get(batch.kind, 0) + len(batch)
        self._num_rows[batch.kind] = num_rows
        place = np.array([(batch.step, batch.optimizer, num_rows)], SAMPLE_BATCH_DTYPE)
        self._file(layout.sample_index_file(batch.kind)).write(layout.raw(place))
        self._checks.commit()

    def _numbers_of(self, subjects: Sequence[SampleSubject]) -> list[int]:
        """Return the numbers of the subjects, after appending those that are new."""
        known = [self._numbers.get(each, -1) for each in subjects]
        if -1 not in known and layout.SUBJECTS in self._files:
            return known
        fresh = [each for each in dict.fromkeys(subjects) if each not in self._numbers]
        lines = b"".join(dumps_sealed(subject_to_json(each)) + b"\n" for each in fresh)
        self._file(layout.SUBJECTS).write(lines)
        for each in fresh:
            self._numbers[each] = len(self._numbers)
        return [self._numbers[each] for each in subjects]

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        for file in self._files.values():
            file.sync()
        if self._checks is not None:
            self._checks.sync()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        if self._checks is not None:
            self._checks.close()

    def _file(self, name: str) -> AppendFile:
        if name not in self._files:
            self._files[name] = self._created(name)
        return self._files[name]

    def _created(self, name: str) -> AppendFile:
        if name == layout.SUBJECTS or self._checks is None:
            return AppendFile(self._path / name, self._goes_on)
        folder = self._path / layout.SAMPLES
        return CheckedFile(folder, Path(name).name, self._checks, self._goes_on)
