"""Convert the JSON documents of a segment: its columns, how they changed, what was removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seismograd.record.validation import MAX_COLUMNS, build, count, fields_of, text
from seismograd.schema import Parameter


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What the columns of a segment's files are: its parameters, in order; the row of the run it
    begins with; its statistics.

    Where parameters keep being added, its files have spare columns: `num_columns` in all.
    Where raw values are kept of some steps only, the files of rows are in parts of `rows_per_part`.
    """

    first_row: int
    statistics: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    num_columns: int
    rows_per_part: int = 0


@dataclass(frozen=True, slots=True)
class RemovedPart:
    """A part of the raw values of a segment that was removed, and how many rows it had."""

    index: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What columns of a segment are from a row of the run on: parameters that took spare columns,
    and others of which more is known by then.
    """

    first_row: int
    columns: tuple[int, ...]
    parameters: tuple[Parameter, ...]


def segment_to_json(segment: SegmentInfo) -> dict[str, object]:
    """Return the `parameters.json` of a segment, when it begins. One with spare columns has other
    keys, since whoever does not know of them would take the wrong numbers for a row.
    """
    parameters = [fields_of(parameter) for parameter in segment.parameters]
    common: dict[str, object] = {
        "first_row": segment.first_row,
        "statistics": list(segment.statistics),
    }
    if segment.rows_per_part:
        common["rows_per_part"] = segment.rows_per_part
    if segment.num_columns == len(parameters):
        return {**common, "parameters": parameters}
    return {**common, "num_columns": segment.num_columns, "first_parameters": parameters}


def segment_from_json(data: Any) -> SegmentInfo:
    """Return the segment that `segment_to_json` wrote."""
    first_row = count(data["first_row"])
    if first_row < 0:
        raise ValueError(first_row)
    spare = "num_columns" in data
    listed = data["first_parameters" if spare else "parameters"]
    parameters = tuple(build(Parameter, each) for each in listed)
    num_columns = count(data["num_columns"]) if spare else len(parameters)
    rows_per_part = count(data.get("rows_per_part", 0))
    if not len(parameters) <= num_columns <= MAX_COLUMNS or rows_per_part < 0:
        raise ValueError(num_columns)
    return SegmentInfo(
        first_row,
        tuple(text(name) for name in data["statistics"]),
        parameters,
        num_columns,
        rows_per_part,
    )


def removed_to_json(part: RemovedPart) -> dict[str, object]:
    """Return a line of `removed.jsonl`."""
    return {"part": part.index, "rows": part.num_rows}


def removed_from_json(data: Any) -> RemovedPart:
    """Return the part that `removed_to_json` wrote."""
    part = RemovedPart(count(data["part"]), count(data["rows"]))
    if part.index < 0 or part.num_rows < 0:
        raise ValueError(part)
    return part


def change_to_json(change: ColumnChange) -> dict[str, object]:
    """Return a line of `changes.jsonl`."""
    return {
        "first_row": change.first_row,
        "columns": list(change.columns),
        "parameters": [fields_of(parameter) for parameter in change.parameters],
    }


def change_from_json(data: Any) -> ColumnChange:
    """Return the change that `change_to_json` wrote."""
    columns = tuple(count(each) for each in data["columns"])
    parameters = tuple(build(Parameter, each) for each in data["parameters"])
    if len(columns) != len(parameters):
        raise ValueError(columns)
    return ColumnChange(count(data["first_row"]), columns, parameters)
