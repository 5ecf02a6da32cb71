"""A run whose files were cut at any byte reads back as far as it is whole, loses nothing more,
and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from seismograd import Run, open_run
from seismograd.record import layout
from seismograd.record.checksums import CHECKS, log_dtype
from seismograd.record.entry_files import EntryFiles
from seismograd.record.layout import LEVELS
from seismograd.record.segment_documents import SegmentInfo, segment_from_json
from seismograd.record.strict_json import loads
from seismograd.schema import STATISTICS, STEP_DTYPE, Site
from tests import synthetic
from tests.record.recordings import SITES, Training, assert_reads_back, trainings, write


@settings(max_examples=15)
@given(
    trainings(min_rows=1),
    st.lists(st.integers(1, 5), min_size=1, max_size=2),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_what_is_whole_reads_back_and_the_rest_is_said(
    training: Training, cuts: list[int], ended: bool, seed: int
) -> None:
    # Nothing is drawn behind the writing: a disk that fails once would be reported as a strategy
    # that draws something else when it is repeated.
    rng = np.random.default_rng(seed)
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
        kept = {file: bytes_to_keep(file, rng) for file in files}
        for file in files:
            note(f"{file.relative_to(path)}: {kept[file]} bytes of {file.stat().st_size}")
            written.check_cut({file: kept[file]})
        several = sorted(rng.choice(len(files), rng.integers(2, 5), replace=False))
        written.check_cut({files[index]: kept[files[index]] for index in several})


def bytes_to_keep(file: Path, rng: np.random.Generator) -> int:
    """Any number of bytes but all of them, the first and the last and the ends of lines more often
    than others.
    """
    text = file.read_bytes()
    ends = [0, *(index + 1 for index, byte in enumerate(text[:-1]) if byte == ord("\n"))]
    often = ends if file.suffix == ".jsonl" else [0, 1, len(text) - 1]
    return int(rng.choice(often) if rng.random() < 0.3 else rng.integers(len(text)))


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
        if file.name == layout.PARAMETERS:
            return self.rows_left_before(int(file.parent.name))
        if file.name != CHECKS and file.name not in self.names(file):
            return len(self.training.rows)
        return self.rows_left_by_log(file, keep)

    def rows_left_before(self, index: int) -> int:
        """What comes before a segment is left, but one without parameters does not tell how many
        rows it has.
        """
        if index and not self.segments[index - 1].num_columns:
            return self.segments[index - 1].first_row
        return self.segments[index].first_row

    def rows_left_by_log(self, file: Path, keep: int) -> int:
        """How many rows there are in the batches that are whole, when a file with checksums or the
        log itself keeps this many bytes.
        """
        names = self.names(file)
        log = np.frombuffer(self.logs[file.with_name(CHECKS)], log_dtype(len(names)))
        if file.name == CHECKS:
            whole = log[: keep // log.dtype.itemsize]
        else:
            whole = log[log["end"][:, names.index(file.name)] <= keep]
        if file.parent == self.path:
            column = names.index(layout.STEPS)
            return int(whole["end"][-1, column]) // STEP_DTYPE.itemsize if len(whole) else 0
        segment = self.segments[int(file.parent.name)]
        ends = [each.first_row for each in self.segments if each.first_row > segment.first_row]
        end = min(ends, default=len(self.training.rows))
        if not segment.num_columns:  # only its samples tell of its rows
            rows = self.training.rows
            sampled = [row for row in range(segment.first_row, end) if len(rows[row].sample_rows)]
            num_held = (
                int(whole["end"][-1, names.index(layout.SAMPLE_ROWS)]) // 8 if len(whole) else 0
            )
            is_lost = file.name != CHECKS and num_held < len(sampled)
            return sampled[num_held] if is_lost else len(rows)
        column = names.index(layout.STATE)
        held = int(whole["end"][-1, column]) // segment.num_columns if len(whole) else 0
        left = segment.first_row + held
        return len(self.training.rows) if left >= end else left

    def names(self, file: Path) -> tuple[str, ...]:
        """The columns of the log of checksums beside a file."""
        in_run = file.parent == self.path
        return layout.CHECKED_OF_RUN if in_run else layout.checked_of_segment(STATISTICS)

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


def test_a_sample_that_was_cut_with_its_log_is_missed_where_there_are_no_parameters(
    tmp_path: Path,
) -> None:
    block = synthetic.block(np.ones((3, 0)), sample_rows=[1])
    path = synthetic.write_run(tmp_path / "run", [block])
    assert open_run(path).num_rows == 3
    for name in (CHECKS, layout.SAMPLE_ROWS):
        (path / "segments/0000" / name).write_bytes(b"")
    run = open_run(path)
    assert run.num_rows == 1
    assert run.torn is not None


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
