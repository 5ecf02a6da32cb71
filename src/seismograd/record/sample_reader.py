"""Read what was sampled, as far as it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges, outside
from seismograd.record.line_documents import subject_from_json
from seismograd.record.recorded_files import require_directory
from seismograd.record.recorded_lines import read_lines
from seismograd.schema import (
    SAMPLE_BATCH_DTYPE,
    IntArray,
    SampleBatch,
    SampleKind,
    SampleSubject,
)
from seismograd.schema.samples import from_entries, sample_dtype

HEAD = ("subject", "measured")  # of each row, in this order


class SampleSeries:
    """The samples of one kind, as they were when it was made: B batches, whose rows are read when
    they are asked for.

    A batch counts when its entry in the index, its rows and their subjects are all there.
    `dtype` is that of the rows as the run has them; `None`: it has none of this kind. `checked` has
    the checksums: of a batch whose rows are damaged nothing is measured, and one whose entry in the
    index is damaged is left out.
    """

    def __init__(
        self, path: Path, kind: SampleKind, dtype: np.dtype[Any] | None, checked: CheckedRanges
    ) -> None:
        self._path, self.kind, self._checked = path, kind, checked
        self._dtype = sample_dtype(kind) if dtype is None else dtype
        self._subjects: list[SampleSubject] = []
        self._index = self._whole_part(dtype is not None)
        self._starts = np.concatenate([[0], self._index["end"][:-1]]).astype(np.int64)
        index_file = Path(layout.sample_index_file(kind)).name
        damaged = checked.damaged_rows(index_file, SAMPLE_BATCH_DTYPE.itemsize, 0, len(self))
        kept = [row for start, stop in outside(damaged, 0, len(self)) for row in range(start, stop)]
        if damaged:
            self._index, self._starts = self._index[kept], self._starts[kept]

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"<SampleSeries {self.kind}: {len(self)}>"

    @cached_property
    def steps(self) -> IntArray:
        """Return the step of each batch  # (B,)."""
        return self._index["step"].astype(np.int64)

    def __getitem__(self, position: int) -> SampleBatch:
        """Return one batch; -1 is the last."""
        position = range(len(self))[position]
        rows = self._rows(int(self._starts[position]), int(self._index["end"][position]))
        entry = self._index[position]
        subjects = [self._subject(number) for number in rows["subject"].tolist()]
        return from_entries(self.kind, int(entry["step"]), int(entry["optimizer"]), subjects, rows)

    def __iter__(self) -> Iterator[SampleBatch]:
        """Yield all batches, in the order in which they were made."""
        return (self[position] for position in range(len(self)))

    def between(self, first: int, last: int) -> Iterator[SampleBatch]:
        """Yield the batches of these steps, `last` included."""
        within = (self.steps >= first) & (self.steps <= last)
        return (self[position] for position in np.flatnonzero(within).tolist())

    def latest(self, step: int | None = None) -> SampleBatch | None:
        """Return the last batch up to and with a step, by default of all; `None` where there is
        none.
        """
        within = np.ones(len(self), np.bool_) if step is None else self.steps <= step
        found = np.flatnonzero(within)
        return self[int(found[-1])] if len(found) else None

    def _whole_part(self, is_known: bool) -> npt.NDArray[Any]:
        """Return the index of the batches that are whole, and read their subjects."""
        nothing: npt.NDArray[Any] = np.empty(0, SAMPLE_BATCH_DTYPE)
        if not is_known or not require_directory(self._path / layout.SAMPLES):
            return nothing
        if (self._dtype.names or ())[: len(HEAD)] != HEAD:
            return nothing
        index_path = self._path / layout.sample_index_file(self.kind)
        num_batches, _ = layout.num_whole_rows(index_path, SAMPLE_BATCH_DTYPE)
        index = layout.read_rows(index_path, SAMPLE_BATCH_DTYPE, 0, num_batches)
        if not len(index):
            return nothing
        num_rows, _ = layout.num_whole_rows(self._path / layout.sample_file(self.kind), self._dtype)
        ends = index["end"].astype(np.int64)
        sound = (ends <= num_rows) & (np.diff(ends, prepend=0) > 0) & (index["step"] >= 0)
        index = index[: len(index) if sound.all() else int(np.argmin(sound))]
        lines = read_lines(self._path / layout.SUBJECTS, subject_from_json, 0, True)
        self._subjects = list(lines.values)
        while len(index) and not self._knows(index):
            index = index[:-1]
        return index

    def _knows(self, index: npt.NDArray[Any]) -> bool:
        """Return whether the last batch of an index has subjects that are known."""
        start = int(index["end"][-2]) if len(index) > 1 else 0
        numbers: npt.NDArray[Any] = self._rows(start, int(index["end"][-1]))["subject"]
        return bool(((numbers >= -1) & (numbers < len(self._subjects))).all())

    def _subject(self, number: int) -> SampleSubject:
        """Return the subject of this number; `?` for one that a damaged row points to."""
        known = 0 <= number < len(self._subjects)
        return self._subjects[number] if known else SampleSubject("?")

    def _rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        rows = layout.read_rows(
            self._path / layout.sample_file(self.kind), self._dtype, start, stop
        )
        name = Path(layout.sample_file(self.kind)).name
        for begin, end in self._checked.damaged_rows(name, self._dtype.itemsize, start, stop):
            rows[begin - start : end - start] = 0
            rows["subject"][begin - start : end - start] = -1
        return rows
