"""The contents of a run directory: names, dtypes, and the conversion of a number to the dtype it is
stored in.

Every file but the JSON ones is rows of little-endian numbers without a header, so that NumPy alone
reads it and a file cut at any byte loses only its last rows. `steps.bin` is written last of each
batch: a row counts once its step is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.record.recorded_files import file_size, open_file
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    SampleKind,
    Statistic,
)

FORMAT = "seismograd run"

META = "meta.json"  # what the other files mean; without it nothing is recorded
README = "README.txt"
LOCK = "writing.lock"  # held by the process that writes, so that no other one does
END = "end.json"  # written at an orderly end, with the counts of rows and lines

STEPS = "steps.bin"  # (T,) STEP_DTYPE
EVENTS = "events.bin"  # EVENT_DTYPE
EVENT_ENDS = "event_ends.i64"  # (T,) number of events up to and with this row
RANKS = "ranks.bin"  # RANK_DTYPE
RANK_ENDS = "rank_ends.i64"  # (T,) likewise
PAIRS = "pairs.bin"  # PAIR_DTYPE
PAIR_ENDS = "pair_ends.i64"  # (T,) likewise
ELEMENTS = "elements.f64"  # (T, E)

SITES = "sites.jsonl"
OPTIMIZERS = "optimizers.jsonl"
NOTES = "notes.jsonl"
FACTS = "facts.jsonl"
FINDINGS = "findings.jsonl"
NUMBERED_LINES = (SITES, OPTIMIZERS)  # events and steps point to them by number
LINE_FILES = (SITES, OPTIMIZERS, NOTES, FACTS, FINDINGS)

SAMPLES = "samples"  # what is looked at only on sampled steps: two files for each kind
SUBJECTS = f"{SAMPLES}/subjects.jsonl"  # what the rows of those files are about

BRANCHES = "branches"  # what the record was each time before later steps were taken back

SEGMENTS = "segments"  # one directory per set of parameters and statistics
PARAMETERS = "parameters.json"
RAW = "raw"  # of a record that keeps raw values of some steps only: the files of rows, in parts
REMOVED = "removed.jsonl"  # which parts were removed
CHANGES = "changes.jsonl"  # of a segment with spare columns: what they became since
STATE = "state.u8"  # (rows of the segment, P)
SAMPLE_ROWS = "sample_rows.i64"  # (S,) rows of the run whose sampled statistics were measured

STATISTIC_BY_NAME = {statistic.name: statistic for statistic in STATISTICS}
ENTRY_DTYPES: dict[str, np.dtype[Any]] = {
    STEPS: STEP_DTYPE,
    EVENTS: EVENT_DTYPE,
    EVENT_ENDS: np.dtype("<i8"),
    RANKS: RANK_DTYPE,
    RANK_ENDS: np.dtype("<i8"),
    PAIRS: PAIR_DTYPE,
    PAIR_ENDS: np.dtype("<i8"),
    ELEMENTS: np.dtype("<f8"),
}
# files with any number of entries per row, and the files with each row's end
ENDS = {EVENTS: EVENT_ENDS, RANKS: RANK_ENDS, PAIRS: PAIR_ENDS}

LEVELS = "levels"
MAX_LEVEL = 10  # cells of a thousand million rows
_LEVEL_FILES = tuple(f"{LEVELS}/{level}.bin" for level in range(1, MAX_LEVEL + 1))

# what the columns of the logs of checksums are for
CHECKED_OF_RUN = (*ENTRY_DTYPES, *_LEVEL_FILES)

_SUFFIXES = {"f8": "f64", "f4": "f32", "u4": "u32", "u1": "u8", "i8": "i64"}


def segment_path(run: Path, index: int) -> Path:
    """Return the directory of segment `index`, from 0."""
    return run / SEGMENTS / f"{index:04d}"


def part_path(segment: Path, index: int) -> Path:
    """Return the directory of a part of the raw values of a segment, from 0."""
    return segment / RAW / f"{index:06d}"


def sample_file(kind: SampleKind) -> str:
    """Return the name of the file with the rows of a kind of samples."""
    return f"{SAMPLES}/{kind}.bin"


def sample_index_file(kind: SampleKind) -> str:
    """Return the name of the file with one entry per batch of a kind, written after its rows."""
    return f"{SAMPLES}/{kind}_batches.bin"


def statistic_file(statistic: Statistic) -> str:
    """Return the file name of a statistic: its name and its dtype."""
    return f"{statistic.name}.{_SUFFIXES[np.dtype(statistic.dtype).str[1:]]}"


def in_parts(checked: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which columns of the log of a segment have the files of levels, and which those of
    rows: where rows are in parts, these have logs of their own.
    """
    names = tuple(checked)
    levels = tuple(name for name in names if name.startswith(f"{LEVELS}/"))
    return levels, tuple(name for name in names if name not in levels)


def checked_of_segment(statistics: Iterable[Statistic]) -> tuple[str, ...]:
    """Return what the columns of the log of checksums of a segment are for."""
    return (STATE, SAMPLE_ROWS, *map(statistic_file, statistics), *_LEVEL_FILES)


# what the columns of the log of checksums beside the samples are for; in their own directory
CHECKED_OF_SAMPLES = tuple(
    Path(file(kind)).name for kind in SampleKind for file in (sample_file, sample_index_file)
)


def level_path(directory: Path, level: int) -> Path:
    """Return the file of a level of the pyramid in this directory, a run's or a segment's."""
    return directory / level_file(level)


def level_file(level: int) -> str:
    """Return the name of the file of a level, from 1."""
    return _LEVEL_FILES[level - 1]


def raw(values: AnyArray) -> memoryview:
    """Return the numbers as bytes of a file, without a copy where their memory already has that
    form.
    """
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def num_whole_rows(path: Path, dtype: np.dtype[np.generic], width: int = 1) -> tuple[int, bool]:
    """Return how many whole rows of `width` numbers the file holds, and whether a partial one
    follows; none for a missing file.
    """
    whole, rest = divmod(file_size(path) or 0, dtype.itemsize * width)
    return whole, rest > 0


def read_rows(
    path: Path, dtype: np.dtype[np.generic], start: int, stop: int, *shape: int
) -> npt.NDArray[Any]:
    """Return rows `start` to `stop` of a file whose rows have this shape
    # (stop - start, *shape).
    """
    width = math.prod(shape)
    num = (stop - start) * width
    if num <= 0:
        return np.empty((max(stop - start, 0), *shape), dtype)
    with os.fdopen(open_file(path), "rb", buffering=0) as file:
        numbers = np.fromfile(file, dtype, num, offset=start * width * dtype.itemsize)
    return numbers.reshape(stop - start, *shape)


def read_held_rows(
    path: Path, dtype: np.dtype[np.generic], start: int, stop: int, *shape: int
) -> npt.NDArray[Any]:
    """Return what `read_rows` does; rows that the file does not hold, as one that was cut or
    removed, are zeros.
    """
    width = math.prod(shape)
    num_held = num_whole_rows(path, dtype, width)[0] if width else stop
    if stop <= max(start, num_held):
        return read_rows(path, dtype, start, stop, *shape)
    rows: npt.NDArray[Any] = np.zeros((stop - start, *shape), dtype)
    if num_held > start:
        rows[: num_held - start] = read_rows(path, dtype, start, num_held, *shape)
    return rows
