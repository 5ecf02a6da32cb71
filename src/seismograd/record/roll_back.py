"""Bring a record back to its first rows, so that it can go on from there.

It may be killed at any moment: the log of checksums is replaced first and at once, and from then on
readers take the rows up to its end. What is behind that is removed afterwards, or the next time.
Segments stay as they are: what goes on begins a new one, and readers take of the one before only
what lies before that.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np

from seismograd.i18n import translate
from seismograd.record import layout
from seismograd.record.append_file import replace_document, sync_file
from seismograd.record.checksums import CHECKS
from seismograd.record.cut_lines import cut_lines, keep_lines
from seismograd.record.cut_log import cut_log
from seismograd.record.pyramid.cells import cell_rows, record_dtype
from seismograd.record.pyramid.step_scalars import STATISTICS as STEP_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run
from seismograd.record.readme_text import WENT_BACK
from seismograd.record.recorded_files import file_size
from seismograd.record.segment_documents import change_from_json
from seismograd.schema import SAMPLE_BATCH_DTYPE, SampleKind, sample_dtype
from seismograd.schema.snapshots import FOLDER, is_snapshot_file

_STEP = re.compile(r"step-(\d+)")


def roll_back(run: Run, num_rows: int, step: int, syncs: bool = False) -> None:
    """Leave the first rows of a record, which are those before a step, and what belongs to them.
    Rows that it loses must be in a branch (`branch_off`).

    Raises:
        OSError: it cannot be written.
    """
    path, ends = run.path, _ends(run, num_rows)
    (path / layout.END).unlink(missing_ok=True)
    cut_log(run.entry_files.checked, ends)
    if syncs:
        sync_file(path / CHECKS)
        sync_file(path)
    for name, end in ends.items():
        _shorten(path / name, end)
        if not end and name.startswith(f"{layout.LEVELS}/"):  # a level begins with its first cell
            (path / name).unlink(missing_ok=True)
    _tell_readers(path / layout.README)
    _cut_segments(run, num_rows)
    _cut_samples(run, step)
    cut_lines(path, step)
    _remove_snapshots(path / FOLDER, step)


def _ends(run: Run, num_rows: int) -> dict[str, int]:
    """Return how many bytes of each file of the run belong to its first rows."""
    entries = run.entry_files
    ends = dict.fromkeys(layout.CHECKED_OF_RUN, 0)
    ends[layout.STEPS] = num_rows * layout.ENTRY_DTYPES[layout.STEPS].itemsize
    ends[layout.ELEMENTS] = (
        num_rows * entries.num_elements * layout.ENTRY_DTYPES[layout.ELEMENTS].itemsize
    )
    for name, of_rows in layout.ENDS.items():
        ends[of_rows] = num_rows * layout.ENTRY_DTYPES[of_rows].itemsize
        num_entries = int(entries.ends(name, num_rows - 1, num_rows)[0])
        ends[name] = num_entries * layout.ENTRY_DTYPES[name].itemsize
    for level in range(1, layout.MAX_LEVEL + 1):
        name = layout.level_file(level)
        size = record_dtype(level, len(STEP_SCALARS), STEP_STATISTICS).itemsize
        there = min(file_size(run.path / name) or 0, entries.checked.end(name) or 0)
        ends[name] = min(num_rows // cell_rows(level), there // size) * size
    return ends


def _tell_readers(readme: Path) -> None:
    """Add to the text for readers without this package what they have to know of segments."""
    told = translate(WENT_BACK).encode()
    text = readme.read_bytes() if readme.exists() else b""
    if told not in text:
        replace_document(readme, text + told)


def _shorten(path: Path, size: int) -> None:
    if (file_size(path) or 0) > size:
        os.truncate(path, size)


def _cut_segments(run: Run, num_rows: int) -> None:
    """Remove the segments that begin later, from the last one, and later parts of the others."""
    folder = run.path / layout.SEGMENTS
    kept = [segment for segment in run.intact.segments if segment.info.first_row < num_rows]
    names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    for index in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        if index >= len(kept):
            _remove(layout.segment_path(run.path, index))
    for segment in kept:
        for part in segment.parts:
            if part.path != segment.path and part.first_row >= num_rows:
                _remove(part.path)
        keep_lines(
            segment.path / layout.CHANGES,
            change_from_json,
            lambda change: change.first_row < num_rows,
            by_number=True,
        )


def _remove(folder: Path) -> None:
    """Remove a directory, which is whole or not there at any moment."""
    gone = folder.with_name(f".{folder.name}")
    if gone.exists():
        shutil.rmtree(gone)
    folder.rename(gone)
    shutil.rmtree(gone)


def _cut_samples(run: Run, step: int) -> None:
    folder = run.path / layout.SAMPLES
    if not folder.is_dir():
        return
    ends: dict[str, int] = {}
    for kind in SampleKind:
        file, index_file = layout.sample_file(kind), layout.sample_index_file(kind)
        num, _ = layout.num_whole_rows(run.path / index_file, SAMPLE_BATCH_DTYPE)
        index = layout.read_rows(run.path / index_file, SAMPLE_BATCH_DTYPE, 0, num)
        row_bytes = sample_dtype(kind).itemsize
        num_rows = (file_size(run.path / file) or 0) // row_bytes
        is_kept = (index["step"] < step) & (index["end"] <= num_rows)
        num_kept = num if is_kept.all() else int(np.argmin(is_kept))
        end = int(index["end"][num_kept - 1]) if num_kept else 0
        ends[Path(index_file).name] = num_kept * SAMPLE_BATCH_DTYPE.itemsize
        ends[Path(file).name] = end * row_bytes
    if run.checked_samples.exists:
        cut_log(run.checked_samples, ends)
    for name, end in ends.items():
        _shorten(folder / name, end)


def _remove_snapshots(folder: Path, step: int) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _STEP.match(path.name)
        if found is not None and is_snapshot_file(path.name) and int(found[1]) >= step:
            path.unlink()
