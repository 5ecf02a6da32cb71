"""A run whose files were cut at any byte reads back as far as it is whole, loses nothing more,
and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seismograd import Run, open_run
from seismograd.record import layout
from seismograd.record.checksums import CHECKS, log_dtype
from seismograd.record.documents import SegmentInfo, segment_from_json
from seismograd.record.entry_files import EntryFiles
from seismograd.record.layout import LEVELS
from seismograd.record.strict_json import loads
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    RowBatch,
    Site,
)
from tests import synthetic
from tests.record.recordings import SITES, Training, assert_reads_back, trainings, write

STATISTIC_OF_FILE = {layout.statistic_file(statistic): statistic for statistic in STATISTICS}


@settings(max_examples=15)
@given(
    trainings(min_rows=1),
    st.lists(st.integers(1, 5), min_size=1, max_size=2),
    st.booleans(),
    st.data(),
)
def test_what_is_whole_reads_back_and_the_rest_is_said(
    training: Training, cuts: list[int], ended: bool, data: st.DataObject
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "run"
        write(path, training, cuts, ended=ended)
        segments = [
            segment_from_json(loads(file.read_bytes()))
            for file in sorted(path.glob("segments/*/parameters.json"))
        ]
        logs = {file: file.read_bytes() for file in path.rglob(CHECKS)}
        written = Written(path, training, segments, open_run(path), logs)
        files = sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and file.name != layout.META and file.stat().st_size
        )
        files = [file for file in files if file.parent.name != LEVELS]  # test_pyramid cuts those
        several = data.draw(
            st.sets(st.sampled_from(files), min_size=2, max_size=4), label="cut together"
        )
        kept = {file: data.draw(bytes_to_keep(file), label=file.name) for file in files}
        for file in files:
            written.check_cut({file: kept[file]})
        written.check_cut({file: kept[file] for file in sorted(several)})


def bytes_to_keep(file: Path) -> st.SearchStrategy[int]:
    """Any number of bytes but all of them, the ends of lines more often than others."""
    text = file.read_bytes()
    if file.suffix != ".jsonl":
        return st.integers(0, len(text) - 1)
    ends = [0, *(index + 1 for index, byte in enumerate(text[:-1]) if byte == ord("\n"))]
    return st.integers(0, len(text) - 1) | st.sampled_from(ends)


@dataclass(frozen=True)
class Written:
    """A run on disk and what was written to it."""

    path: Path
    training: Training
    segments: list[SegmentInfo]
    whole: Run
    logs: dict[Path, bytes]

    def check_cut(self, kept: dict[Path, int]) -> None:
        """Cut these files to these numbers of bytes, read the run, and put them back."""
        before = {file: file.read_bytes() for file in kept}
        for file, keep in kept.items():
            file.write_bytes(before[file][:keep])
        num_left = min(self.rows_left(file, keep, len(before[file])) for file, keep in kept.items())
        shows = num_left < len(self.training.rows) or any(
            self.shows(file, before[file], keep) for file, keep in kept.items()
        )
        run = open_run(self.path)
        assert_reads_back(run, self.training.rows[:num_left], self.training.num_elements)
        assert sum(len(block) for block in run.blocks(3)) == num_left
        assert run.findings == self.whole.findings[: len(run.findings)]
        assert run.notes == self.whole.notes[: len(run.notes)]
        assert all(
            site in (known, Site("?", 0, "?"))
            for site, known in zip(run.sites, SITES, strict=False)
        )
        assert (run.torn is not None) >= shows
        for file, text in before.items():
            file.write_bytes(text)

    def rows_left(self, file: Path, keep: int, num_bytes: int) -> int:
        """How many rows are whole when the file keeps this many of its bytes."""
        if file.suffix == ".json" and keep == num_bytes - 1:  # only the line end is lost
            return len(self.training.rows)
        if file.name == CHECKS:
            return self.rows_left_by_log(file, keep)
        if file.parent == self.path:
            return rows_left_by_run_file(self.training, file.name, keep)
        return rows_left_by_segment_file(
            self.training.rows, self.segments, int(file.parent.name), file.name, keep
        )

    def rows_left_by_log(self, file: Path, keep: int) -> int:
        """How many rows the entries know of that are whole when the log keeps this many bytes."""
        if file.parent == self.path:
            names, first, row_bytes = layout.CHECKED_OF_RUN, 0, STEP_DTYPE.itemsize
            column = names.index(layout.STEPS)
        else:
            segment = self.segments[int(file.parent.name)]
            names, first = layout.checked_of_segment(STATISTICS), segment.first_row
            row_bytes, column = len(segment.parameters), names.index(layout.STATE)
        dtype = log_dtype(len(names))
        whole = np.frombuffer(self.logs[file][: keep // dtype.itemsize * dtype.itemsize], dtype)
        if not row_bytes:
            return len(self.training.rows)
        held = int(whole["end"][-1, column]) // row_bytes if len(whole) else 0
        if file.parent == self.path:
            return held
        ends = [each.first_row for each in self.segments if each.first_row > first]
        left = first + held
        return len(self.training.rows) if left >= min(ends, default=left + 1) else left

    def shows(self, file: Path, text: bytes, keep: int) -> bool:
        """Whether the cut of a file without rows can be seen: half a line, or fewer lines than
        an orderly end has counted.
        """
        if file.suffix == ".jsonl":
            return self.whole.ended or (keep > 0 and text[keep - 1] != ord("\n"))
        return file.name == layout.END and keep < len(text) - 1


@pytest.mark.parametrize("num_bytes", [1, 5000])
def test_what_lies_beyond_the_last_step_is_left_out_and_said(
    tmp_path: Path, num_bytes: int
) -> None:
    block = synthetic.block(np.ones((5, 2)), elements=np.ones((5, 1)))
    path = synthetic.write_run(
        tmp_path / "run", [block], run_info=synthetic.info(elements=["a"]), ended=False
    )
    whole = open_run(path)
    for name in (
        "events.bin",
        "event_ends.i64",
        "ranks.bin",
        "rank_ends.i64",
        "pairs.bin",
        "pair_ends.i64",
        "elements.f64",
        "segments/0000/state.u8",
        "segments/0000/zeros.u32",
    ):
        text = (path / name).read_bytes()
        (path / name).write_bytes(text + bytes(num_bytes))
        run = open_run(path)
        assert run.torn is not None, name
        assert run.steps.tobytes() == whole.steps.tobytes()
        assert run.events.tobytes() == whole.events.tobytes()
        assert len(run.ranks) == len(run.pairs) == 0
        (path / name).write_bytes(text)
    assert open_run(path).torn is None


def rows_left_by_run_file(training: Training, name: str, keep: int) -> int:
    """How many rows are whole when this file of the run keeps its first `keep` bytes."""
    row_bytes = {
        layout.STEPS: STEP_DTYPE.itemsize,
        layout.EVENT_ENDS: 8,
        layout.RANK_ENDS: 8,
        layout.PAIR_ENDS: 8,
    }
    row_bytes[layout.ELEMENTS] = 8 * training.num_elements
    if name in row_bytes:
        return keep // row_bytes[name]
    if name == layout.EVENTS:
        return int(
            np.sum(
                np.cumsum([len(row.events) for row in training.rows])
                <= keep // EVENT_DTYPE.itemsize
            )
        )
    if name == layout.RANKS:
        return int(
            np.sum(
                np.cumsum([len(row.ranks) for row in training.rows]) <= keep // RANK_DTYPE.itemsize
            )
        )
    if name == layout.PAIRS:
        return int(
            np.sum(
                np.cumsum([len(row.pairs) for row in training.rows]) <= keep // PAIR_DTYPE.itemsize
            )
        )
    return len(training.rows)


def rows_left_by_segment_file(
    rows: tuple[RowBatch, ...], segments: list[SegmentInfo], index: int, name: str, keep: int
) -> int:
    """The same for a file of a segment."""
    segment = segments[index]
    # what comes before is left, but one without parameters does not tell how many rows it has
    if name == layout.PARAMETERS:
        return (
            segments[index - 1].first_row
            if index and not segments[index - 1].parameters
            else segment.first_row
        )
    end = segments[index + 1].first_row if index + 1 < len(segments) else len(rows)
    sampled = [row for row in range(segment.first_row, end) if len(rows[row].sample_rows)]
    if name == layout.SAMPLE_ROWS:
        return sampled[keep // 8]
    statistic = STATISTIC_OF_FILE.get(name)
    row_bytes = len(segment.parameters) * (
        1 if statistic is None else np.dtype(statistic.dtype).itemsize * statistic.width
    )
    num_left = keep // row_bytes
    return (
        sampled[num_left]
        if statistic is not None and statistic.sampled
        else segment.first_row + num_left
    )


def test_opening_a_long_run_that_was_never_sampled_reads_its_end_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [
        synthetic.block(np.ones((1000, 1)), first_iteration=first, sample_rows=[], events=[])
        for first in range(0, 20_000, 1000)
    ]
    synthetic.write_run(tmp_path / "run", blocks)
    num_read, read = [0], EntryFiles.read

    def counted(entries: EntryFiles, name: str, start: int, stop: int) -> object:
        num_read[0] += stop - start
        return read(entries, name, start, stop)

    monkeypatch.setattr(EntryFiles, "read", counted)
    run = open_run(tmp_path / "run")
    assert run.num_rows == 20_000
    assert num_read[0] < 6000
