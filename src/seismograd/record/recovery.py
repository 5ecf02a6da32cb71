"""Find how far a run is whole: what a killed process left half written is left out.

A row counts when all of it is there, in every file. Rows are dropped from the first that is not, so
what is read is always a prefix of what was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.entry_files import EntryFiles
from seismograd.record.segment import Segment
from seismograd.record.segment_opening import open_segment
from seismograd.schema import Statistic

_CHUNK = 65536  # rows
_TAIL = 4096  # rows that are looked at each time a run is opened


@dataclass(frozen=True, slots=True)
class IntactPart:
    """The whole part of a run: its rows, the entries of files with any number per row, the
    segments. `num_lost` more rows were begun.
    """

    num_rows: int
    num_entries: Mapping[str, int]
    segments: tuple[Segment, ...]
    num_lost: int

    def spans(self) -> Iterator[tuple[Segment, int, int]]:
        """Yield each segment with its first row and the one after its last."""
        ends = [*(segment.info.first_row for segment in self.segments[1:]), self.num_rows]
        for segment, end in zip(self.segments, ends, strict=False):
            yield segment, segment.info.first_row, end


def intact_part(
    entries: EntryFiles,
    statistics: Mapping[str, Statistic],
    checked: Sequence[str],
    num_expected: int,
    ended: bool,
) -> IntactPart:
    """Return the whole part of a run; `checked` are the columns of the logs of checksums of its
    segments, `num_expected` is the number of rows that an orderly end counted, 0 without one.
    """
    # Steps first: a running writer appends them last, so the other files are at least as far when
    # they are read.
    counts = [
        entries.count(layout.STEPS),
        *(entries.count(layout.ENDS[name]) for name in entries.lists()),
    ]
    if entries.num_elements:
        counts.append(entries.count(layout.ELEMENTS))
    num_rows = min(whole for whole, _ in counts)
    num_checked = entries.num_checked_rows()
    if num_checked is not None:
        num_rows = min(num_rows, num_checked)
    num_rows = _rows_in_order(entries, num_rows, keep_damaged=ended)
    num_begun = max(num_expected, *(begun for _, begun in counts))

    num_begun_entries: dict[str, int] = {}
    for name in entries.lists():
        num_whole, num_begun_entries[name] = entries.count(name)
        num_rows = _rows_with_entries(entries, name, num_rows, num_whole)
    segments = tuple(_segments(entries.path, statistics, checked))
    # Of a segment before the last one rows may follow that were taken back.
    num_begun = max(
        [num_begun, *(each.info.first_row + each.num_rows()[1] for each in segments[-1:])]
    )
    num_rows = _rows_in_segments(entries, segments, num_rows)

    num_entries = {name: int(entries.ends(name, num_rows - 1, num_rows)[0]) for name in layout.ENDS}
    more_entries = any(num_begun_entries[name] > num_entries[name] for name in entries.lists())
    return IntactPart(
        num_rows,
        num_entries,
        tuple(segment for segment in segments if segment.info.first_row < num_rows),
        max(num_begun - num_rows, int(more_entries)),
    )


def _rows_in_order(entries: EntryFiles, num_rows: int, keep_damaged: bool) -> int:
    """Return how many of the first rows have iterations that grow: a tail that never reached the
    disk, as after a power cut, is read as zeros. Looks at the last chunk alone when that is whole.
    """
    while num_rows and not keep_damaged:
        damaged = [
            begin
            for begin, end in entries.damaged(layout.STEPS, num_rows - 1, num_rows)
            if end == num_rows
        ]
        if not damaged:
            break
        num_rows = damaged[0]
    while num_rows:
        start = max(0, num_rows - _TAIL)
        iterations = entries.read(layout.STEPS, start, num_rows)["iteration"].astype(np.int64)
        grows = np.concatenate([[iterations[0] >= start], np.diff(iterations) > 0])
        if grows.all():
            return num_rows
        num_rows = start + int(np.argmin(grows))
        if num_rows > start:
            return num_rows
    return 0


def _rows_with_entries(entries: EntryFiles, name: str, num_rows: int, num_whole: int) -> int:
    """Return how many of the first `num_rows` rows have all their entries among the first
    `num_whole`.
    """
    if entries.ends(name, num_rows - 1, num_rows)[0] <= num_whole:
        return num_rows
    return int(np.searchsorted(entries.ends(name, 0, num_rows), num_whole, side="right"))


def _segments(
    run: Path, statistics: Mapping[str, Statistic], checked: Sequence[str]
) -> Iterator[Segment]:
    index, first_row = 0, 0
    while (
        segment := open_segment(layout.segment_path(run, index), statistics, checked)
    ) is not None:
        if segment.info.first_row < first_row or (index == 0 and segment.info.first_row):
            return
        yield segment
        index, first_row = index + 1, segment.info.first_row


def _rows_in_segments(entries: EntryFiles, segments: tuple[Segment, ...], num_rows: int) -> int:
    """Return how many of the first `num_rows` rows have their values, states and samples."""
    if not segments:
        return 0
    next_is_torn = layout.segment_path(entries.path, len(segments)).exists()
    for index, segment in enumerate(segments):
        first = segment.info.first_row
        if first >= num_rows:
            break
        is_last = index + 1 == len(segments)
        end = num_rows if is_last else min(num_rows, segments[index + 1].info.first_row)
        num_held, _ = segment.num_rows()
        if num_held is None:  # without parameters nothing in it shows how far it goes
            num_held = 0 if is_last and next_is_torn else end - first
        num_checked = segment.num_checked_rows()
        if num_checked is not None:
            num_held = min(num_held, num_checked)
        whole_end = _first_lost_sample(entries, segment, min(end, first + num_held))
        if whole_end < end:
            return whole_end
    return num_rows


def _first_lost_sample(entries: EntryFiles, segment: Segment, end: int) -> int:
    """Return the first row before `end` that was sampled and whose sample is missing; `end` when
    there is none.
    """
    held = segment.sample_rows(end)
    if segment.holds_all_samples(len(held)):
        return end  # without a look at the steps: a long run may have had no sample for long
    start = max(int(held[-1]) + 1 if len(held) else 0, segment.first_countable_row)
    for chunk in range(start, end, _CHUNK):
        steps = entries.read(layout.STEPS, chunk, min(chunk + _CHUNK, end))
        lost = np.flatnonzero(steps["sampled"])
        if len(lost):
            return chunk + int(lost[0])
    return end
