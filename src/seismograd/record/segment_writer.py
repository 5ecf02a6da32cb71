"""Write one segment: rows with the same parameters and statistics, one file per statistic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.append_file import replace_document, sync_file
from seismograd.record.checksums import ChecksumWriter
from seismograd.record.pyramid.cells import pyramid_statistics
from seismograd.record.pyramid.pyramid_builder import PyramidBuilder
from seismograd.record.raw_keeper import RowsOfPart
from seismograd.record.raw_writer import RawWriter
from seismograd.record.seals import dumps_sealed
from seismograd.record.segment_documents import (
    ColumnChange,
    SegmentInfo,
    change_to_json,
    segment_to_json,
)
from seismograd.schema import STATISTICS, AnyArray, Parameter, RowBatch

_STATISTICS = layout.STATISTIC_BY_NAME
_CHECKED = layout.checked_of_segment(STATISTICS)
_CHECKED_OF_LEVELS, _CHECKED_OF_ROWS = layout.in_parts(_CHECKED)


class SegmentWriter:
    """The open files of one set of parameters and statistics, with `num_spare` columns for
    parameters that may be added. With `rows_per_part` the files of rows are in parts of so many,
    which can be removed by themselves; `closed_parts` are those that nothing is appended to.
    `syncs`: what is closed must be on the disk.
    """

    def __init__(
        self,
        path: Path,
        batch: RowBatch,
        first_row: int,
        num_spare: int = 0,
        rows_per_part: int = 0,
        syncs: bool = False,
    ) -> None:
        self._parameters = batch.parameters
        self._num_columns = len(batch.parameters) + num_spare
        self._has_spare = num_spare > 0
        self._names = frozenset(batch.values)
        self._sampled_names: frozenset[str] | None = None
        self._path = path
        self._rows_per_part, self._syncs = rows_per_part, syncs
        self._part = RowsOfPart(path, 0)
        self.closed_parts: list[RowsOfPart] = []
        if rows_per_part:
            path.mkdir(parents=True)
            self._raw = RawWriter(layout.part_path(path, 0), batch.values, _CHECKED_OF_ROWS)
            self._checks = ChecksumWriter(path, _CHECKED_OF_LEVELS)
        else:
            self._raw = RawWriter(path, batch.values, _CHECKED)
            self._checks = self._raw.checks
        info = SegmentInfo(
            first_row, tuple(batch.values), batch.parameters, self._num_columns, rows_per_part
        )
        replace_document(path / layout.PARAMETERS, dumps_sealed(segment_to_json(info)) + b"\n")
        self._summed = pyramid_statistics(tuple(batch.values), _STATISTICS)
        self._levels = PyramidBuilder(path, self._num_columns, self._summed, self._checks)

    def fits(self, batch: RowBatch) -> bool:
        """Return whether there are columns for the batch in this segment's files; its statistics
        may be in any order.
        """
        has_columns = (
            batch.parameters is self._parameters
            or batch.parameters == self._parameters
            or (
                self._has_spare
                and len(batch.parameters) <= self._num_columns
                and self._begins_alike(batch)
            )
        )
        new_samples = len(batch.sample_rows) > 0 and self._sampled_names not in (
            None,
            frozenset(batch.samples),
        )
        return has_columns and frozenset(batch.values) == self._names and not new_samples

    def is_grown(self, batch: RowBatch) -> bool:
        """Return whether the batch has the parameters of this segment, and more behind them."""
        return len(batch.parameters) > len(self._parameters) > 0 and self._begins_alike(batch)

    def _begins_alike(self, batch: RowBatch) -> bool:
        return len(batch.parameters) >= len(self._parameters) and all(
            one is other or one.name == other.name
            for one, other in zip(self._parameters, batch.parameters, strict=False)
        )

    def append(self, batch: RowBatch, first_row: int) -> None:
        """Append the batch's values, states and samples; `first_row` is its first row's number
        in the run.
        """
        if self._has_spare and batch.parameters is not self._parameters:
            self._change_columns(batch.parameters, first_row)
        start = 0
        while self._rows_per_part and start < len(batch):
            if self._part.num_rows == self._rows_per_part:
                self._begin_part()
            stop = min(len(batch), start + self._rows_per_part - self._part.num_rows)
            self._append_rows(batch.rows(start, stop), first_row + start)
            start = stop
        if not self._rows_per_part:
            self._append_rows(batch, first_row)

    def _append_rows(self, batch: RowBatch, first_row: int) -> None:
        recorded = {
            name: self._append_statistic(name, values, len(batch))
            for name, values in batch.values.items()
        }
        state = self._padded(np.asarray(batch.state, np.uint8), len(batch), 1)
        self._raw.write(layout.STATE, layout.raw(state))
        if len(batch.sample_rows):
            self._append_samples(batch, first_row)
        self._levels.append(state, {name: recorded[name] for name in self._summed})
        self._raw.checks.commit()
        if self._rows_per_part:
            self._checks.commit()
            self._part.extend(batch)

    def _begin_part(self) -> None:
        if self._syncs:
            self._raw.sync()
        self._raw.close()
        self.closed_parts.append(self._part)
        self._part = RowsOfPart(self._path, self._part.index + 1)
        path = layout.part_path(self._path, self._part.index)
        self._raw = RawWriter(path, self._names, _CHECKED_OF_ROWS)

    def _change_columns(self, parameters: tuple[Parameter, ...], first_row: int) -> None:
        """Tell which columns are new or others from a row on, before it is written."""
        known = len(self._parameters)
        columns = tuple(
            column
            for column, each in enumerate(parameters)
            if column >= known or each != self._parameters[column]
        )
        if columns:
            change = ColumnChange(first_row, columns, tuple(parameters[each] for each in columns))
            with (self._path / layout.CHANGES).open("ab") as file:
                file.write(dumps_sealed(change_to_json(change)) + b"\n")
        self._parameters = parameters

    def _append_samples(self, batch: RowBatch, first_row: int) -> None:
        if self._sampled_names is None:
            self._sampled_names = frozenset(batch.samples)
        self._raw.create(batch.samples)
        for name, values in batch.samples.items():
            self._append_statistic(name, values, len(batch.sample_rows))
        sample_rows = np.asarray(batch.sample_rows + first_row, "<i8")
        self._raw.write(layout.SAMPLE_ROWS, layout.raw(sample_rows))

    def _append_statistic(self, name: str, values: AnyArray, num_rows: int) -> AnyArray:
        """Append the values, and return them with all columns of the file."""
        assert values.dtype == _STATISTICS[name].dtype, name
        padded = self._padded(values, num_rows, _STATISTICS[name].width)
        self._raw.write(name, layout.raw(padded))
        return padded

    def _padded(self, values: AnyArray, num_rows: int, width: int) -> AnyArray:
        """Return the values with spare columns of nothing  # (R, P, ...) -> (R, columns, ...)."""
        num = len(self._parameters)
        shape = (num_rows, num, width)[: 2 + (width > 1)]
        if num == self._num_columns:
            return values.reshape(shape)
        # NOT_MEASURED is 0
        nothing = np.nan if values.dtype.kind == "f" else 0
        padded: AnyArray = np.full((num_rows, self._num_columns, *shape[2:]), nothing, values.dtype)
        padded[:, :num] = values.reshape(shape)
        return padded

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        self._raw.sync()
        self._levels.sync()
        self._checks.sync()
        names = (layout.PARAMETERS, layout.CHANGES)
        for each in (*(self._path / name for name in names), self._path, self._path.parent):
            sync_file(each)

    def finish(self) -> None:
        """Close the files at the end of the segment; with `syncs` they are on the disk then."""
        if self._rows_per_part:
            self._levels.finish()
            self.closed_parts.append(self._part)
        self.flush()
        if self._syncs:
            self.sync()
        self.close()

    def flush(self) -> None:
        """Write the cells of the pyramid that are still held."""
        self._levels.flush()
        self._checks.commit()

    def close(self) -> None:
        """Close the files."""
        self._raw.close()
        self._levels.close()
        self._checks.close()
