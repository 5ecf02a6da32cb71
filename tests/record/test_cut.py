"""A run whose files were cut at any byte reads back as far as it is whole, loses nothing more, and says so."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd import open_run
from seismograd.record import layout
from seismograd.record.documents import SegmentInfo, segment_from_json
from seismograd.record.strict_json import loads
from seismograd.schema import EVENT_DTYPE, STATISTICS, STEP_DTYPE, Row
from tests.record.recordings import SITES, Training, assert_reads_back, trainings, write

STATISTIC_OF_FILE = {layout.statistic_file(statistic): statistic for statistic in STATISTICS}


@given(trainings(min_rows=1), st.lists(st.integers(1, 5), min_size=1, max_size=2), st.booleans(), st.data())
def test_what_is_whole_reads_back_and_the_rest_is_said(training: Training, cuts: list[int], ended: bool, data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "run"
        write(path, training, cuts, ended=ended)
        whole = open_run(path)
        segments = [segment_from_json(loads(file.read_bytes())) for file in sorted(path.glob("segments/*/parameters.json"))]
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != layout.META and file.stat().st_size)
        num_left, shows = len(training.rows), False
        for file in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True)):
            text = file.read_bytes()
            keep = data.draw(st.integers(0, len(text) - 1), label=file.name)
            if file.suffix == ".json" and keep == len(text) - 1:
                continue  # only the line end is lost
            file.write_bytes(text[:keep])
            if file.parent == path:
                num_left = min(num_left, rows_left_by_run_file(training, file.name, keep))
                shows |= file.name == layout.END or (file.suffix == ".jsonl" and (ended or text[:keep].rpartition(b"\n")[2] != b""))
            else:
                num_left = min(num_left, rows_left_by_segment_file(training.rows, segments, int(file.parent.name), file.name, keep))

        run = open_run(path)
        assert_reads_back(run, training.rows[:num_left], training.num_elements)
        assert run.findings == whole.findings[: len(run.findings)]
        assert run.notes == whole.notes[: len(run.notes)]
        assert all(site in (written, type(written)("?", 0, "?")) for site, written in zip(run.sites, SITES, strict=False))
        assert (run.torn is not None) >= (shows or num_left < len(training.rows))
        assert sum(len(block) for block in run.blocks(3)) == num_left


def rows_left_by_run_file(training: Training, name: str, keep: int) -> int:
    """How many rows are whole when this file of the run keeps its first `keep` bytes."""
    row_bytes = {layout.STEPS: STEP_DTYPE.itemsize, layout.EVENT_ENDS: 8, layout.ELEMENTS: 8 * training.num_elements}
    if name in row_bytes:
        return keep // row_bytes[name]
    if name == layout.EVENTS:
        ends = np.cumsum([len(row.events) for row in training.rows])
        return int(np.sum(ends <= keep // EVENT_DTYPE.itemsize))
    return len(training.rows)


def rows_left_by_segment_file(rows: tuple[Row, ...], segments: list[SegmentInfo], index: int, name: str, keep: int) -> int:
    """The same for a file of a segment."""
    segment = segments[index]
    if name == layout.PARAMETERS:  # what comes before is left, but one without parameters does not tell how many rows it has
        return segments[index - 1].first_row if index and not segments[index - 1].parameters else segment.first_row
    end = segments[index + 1].first_row if index + 1 < len(segments) else len(rows)
    sampled = [row for row in range(segment.first_row, end) if rows[row].samples]
    if name == layout.SAMPLE_ROWS:
        return sampled[keep // 8]
    statistic = STATISTIC_OF_FILE.get(name)
    row_bytes = len(segment.parameters) * (1 if statistic is None else np.dtype(statistic.dtype).itemsize * statistic.width)
    num_left = keep // row_bytes
    return sampled[num_left] if statistic is not None and statistic.sampled else segment.first_row + num_left
