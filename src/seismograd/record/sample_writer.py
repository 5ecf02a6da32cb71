"""Append what was sampled: the rows of each kind to a file of their own, then the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.append_file import AppendFile
from seismograd.record.documents import subject_to_json
from seismograd.record.strict_json import dumps
from seismograd.schema import SAMPLE_BATCH_DTYPE, SampleBatch, SampleKind, SampleSubject
from seismograd.schema.samples import to_entries


class SampleWriter:
    """Writes samples into a run. A subject is written once and then pointed to by its number; a
    batch counts once its entry in the index is there, which comes last.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, AppendFile] = {}
        self._numbers: dict[SampleSubject, int] = {}
        self._num_rows: dict[SampleKind, int] = {}

    def append(self, batch: SampleBatch) -> None:
        """Append a batch; raises `OSError` when the disk rejects it."""
        (self._path / layout.SAMPLES).mkdir(exist_ok=True)
        fresh = [each for each in dict.fromkeys(batch.subjects) if each not in self._numbers]
        lines = b"".join(dumps(subject_to_json(each)) + b"\n" for each in fresh)
        self._file(layout.SUBJECTS).write(lines)
        for each in fresh:
            self._numbers[each] = len(self._numbers)
        entries = to_entries(batch, [self._numbers[each] for each in batch.subjects])
        self._file(layout.sample_file(batch.kind)).write(layout.raw(entries))
        num_rows = self._num_rows.get(batch.kind, 0) + len(batch)
        self._num_rows[batch.kind] = num_rows
        place = np.array([(batch.step, batch.optimizer, num_rows)], SAMPLE_BATCH_DTYPE)
        self._file(layout.sample_index_file(batch.kind)).write(layout.raw(place))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> AppendFile:
        if name not in self._files:
            self._files[name] = AppendFile(self._path / name)
        return self._files[name]
