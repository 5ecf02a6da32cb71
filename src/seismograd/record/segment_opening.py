"""Open a segment: what it is and which parts of it are there, as far as its files can be true."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.raw_part import RawPart
from seismograd.record.recorded_files import read_document, require_directory
from seismograd.record.recorded_lines import read_lines
from seismograd.record.seals import loads_sealed
from seismograd.record.segment import Segment, apply_change
from seismograd.record.segment_documents import (
    ColumnChange,
    SegmentInfo,
    change_from_json,
    removed_from_json,
    segment_from_json,
)
from seismograd.schema import Statistic

_PART_NAME = re.compile(r"\d{6,9}", re.ASCII)


def open_segment(
    path: Path, statistics: Mapping[str, Statistic], checked: Sequence[str]
) -> Segment | None:
    """Return the segment in this directory, or `None` when there is none or its `parameters.json`
    is torn; `checked` are the columns of its log of checksums.
    """
    if not require_directory(path.parent) or not require_directory(path):
        return None
    try:
        info = segment_from_json(loads_sealed(read_document(path / layout.PARAMETERS)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(name not in statistics for name in info.statistics):
        return None
    first, changes = info.parameters, ()
    if info.num_columns > len(first):
        changes, last = tuple(_changes(path, info)), list(first)
        for change in changes:
            apply_change(change, last)
        info = replace(info, parameters=tuple(last))
    whole = RawPart(
        path,
        0,
        info.first_row,
        info.num_columns,
        len(info.parameters),
        info.statistics,
        statistics,
        CheckedRanges(path, checked),
    )
    parts, num_removed_upto = (whole,), 0
    if info.rows_per_part:
        levels, rows = layout.in_parts(checked)
        parts, num_removed_upto = _kept_parts(whole, info.rows_per_part, rows)
        checked = levels
    return Segment(
        path,
        info,
        statistics,
        CheckedRanges(path, checked) if info.rows_per_part else whole.checked,
        first,
        changes,
        parts,
        num_removed_upto,
    )


def _changes(path: Path, info: SegmentInfo) -> Iterator[ColumnChange]:
    """Yield how columns changed, as far as it is told and fits."""
    row, num = info.first_row, len(info.parameters)
    for change in read_lines(path / layout.CHANGES, change_from_json, 0, True).values:
        for column in change.columns:
            if not 0 <= column <= num < info.num_columns + (column < num):
                return
            num += column == num
        if change.first_row < row:
            return
        row = change.first_row
        yield change


def _kept_parts(
    like: RawPart, size: int, checked: Sequence[str]
) -> tuple[tuple[RawPart, ...], int]:
    """Return the parts that are there, and the rows up to the end of the last removed one;
    `checked` are the columns of their logs.
    """
    removed: dict[int, int] = {}
    for each in read_lines(like.path / layout.REMOVED, removed_from_json, 0, False).values:
        removed[each.index] = each.index * size + min(each.num_rows, size)
    parts: list[RawPart] = []
    folder = like.path / layout.RAW
    names = [path.name for path in folder.iterdir()] if require_directory(folder) else []
    for index in sorted({int(name) for name in names if _PART_NAME.fullmatch(name)}):
        path = layout.part_path(like.path, index)
        if index not in removed and require_directory(path):
            first = index * size
            log = CheckedRanges(path, checked)
            place = like.first_row + first
            parts.append(replace(like, path=path, first=first, first_row=place, checked=log))
    return tuple(parts), max(removed.values(), default=0)
