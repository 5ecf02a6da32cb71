"""Write one segment: rows with the same parameters and statistics, one file per statistic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.append_file import replace_document, sync_file
from seismograd.record.checksums import CheckedFile, ChecksumWriter
from seismograd.record.documents import SegmentInfo, segment_to_json
from seismograd.record.pyramid.pyramid_builder import PyramidBuilder
from seismograd.record.pyramid.pyramid_levels import pyramid_statistics
from seismograd.record.seals import dumps_sealed
from seismograd.schema import STATISTICS, AnyArray, RowBatch

_STATISTICS = {statistic.name: statistic for statistic in STATISTICS}


class SegmentWriter:
    """The open files of one set of parameters and statistics."""

    def __init__(self, path: Path, batch: RowBatch, first_row: int) -> None:
        self._parameters = batch.parameters
        self._names = frozenset(batch.values)
        self._sampled_names: frozenset[str] | None = None
        self._path = path
        # by file name, those of statistics by the name of the statistic
        self._files: dict[str, CheckedFile] = {}
        path.mkdir(parents=True)
        self._checks = ChecksumWriter(path, layout.checked_of_segment(STATISTICS))
        for name in (layout.STATE, layout.SAMPLE_ROWS):
            self._files[name] = CheckedFile(path, name, self._checks)
        for name in batch.values:
            self._create(name)
        info = SegmentInfo(first_row, tuple(batch.values), batch.parameters)
        replace_document(path / layout.PARAMETERS, dumps_sealed(segment_to_json(info)) + b"\n")
        self._summed = pyramid_statistics(tuple(batch.values), _STATISTICS)
        self._levels = PyramidBuilder(path, len(batch.parameters), self._summed, self._checks)

    def fits(self, batch: RowBatch) -> bool:
        """Return whether the batch has the columns that this segment's files have, in any order
        of its statistics.
        """
        same_parameters = (
            batch.parameters is self._parameters or batch.parameters == self._parameters
        )
        new_samples = len(batch.sample_rows) > 0 and self._sampled_names not in (
            None,
            frozenset(batch.samples),
        )
        return same_parameters and frozenset(batch.values) == self._names and not new_samples

    def append(self, batch: RowBatch, first_row: int) -> None:
        """Append the batch's values, states and samples; `first_row` is its first row's number
        in the run.
        """
        shape = len(batch), len(batch.parameters)
        recorded = {
            name: self._append_statistic(name, values, shape)
            for name, values in batch.values.items()
        }
        state = np.asarray(batch.state, np.uint8)
        self._files[layout.STATE].write(layout.raw(state.reshape(shape)))
        if len(batch.sample_rows):
            self._append_samples(batch, first_row)
        self._levels.append(state, {name: recorded[name] for name in self._summed})
        self._checks.commit()

    def _append_samples(self, batch: RowBatch, first_row: int) -> None:
        if self._sampled_names is None:
            self._sampled_names = frozenset(batch.samples)
            for name in batch.samples:
                self._create(name)
        for name, values in batch.samples.items():
            self._append_statistic(
                name,
                values,
                (len(batch.sample_rows), len(batch.parameters), _STATISTICS[name].width),
            )
        self._files[layout.SAMPLE_ROWS].write(
            layout.raw(np.asarray(batch.sample_rows + first_row, "<i8")),
        )

    def _append_statistic(self, name: str, values: AnyArray, shape: tuple[int, ...]) -> AnyArray:
        """Append the values, and return them in this shape."""
        assert values.dtype == _STATISTICS[name].dtype, name
        shaped = values.reshape(shape)
        self._files[name].write(layout.raw(shaped))
        return shaped

    def _create(self, statistic: str) -> None:
        name = layout.statistic_file(_STATISTICS[statistic])
        self._files[statistic] = CheckedFile(self._path, name, self._checks)

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        for file in self._files.values():
            file.sync()
        self._levels.sync()
        self._checks.sync()
        for each in (self._path / layout.PARAMETERS, self._path, self._path.parent):
            sync_file(each)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._levels.close()
        self._checks.close()
