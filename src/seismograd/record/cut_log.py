"""Cut the log of checksums of some files: what they hold up to their new ends stays checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from seismograd.record.append_file import replace_document
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.checksum_log import opened_log
from seismograd.record.checksums import CHECKS, Record, checksum, entry_check, log_dtype
from seismograd.record.recorded_files import open_file

_AT_ONCE = 2**20  # bytes of a file that one new entry is about


def cut_log(checked: CheckedRanges, ends: Mapping[str, int]) -> None:
    """Replace the log by one that ends where the files will end, those without an end at 0: from
    here on no reader takes what is behind. The files themselves are not touched.

    Raises:
        OSError: it cannot be written.
    """
    upto = np.array([ends.get(name, 0) for name in checked.names], np.int64)
    with opened_log(checked.directory, len(checked.names)) as log:
        entries = log.entries(0, len(log))
    whole = entries["check"] == entry_check(entries)
    beyond = np.flatnonzero(whole & (entries["end"] > upto).any(axis=1))
    num_kept = int(beyond[0]) if len(beyond) else len(entries)
    known = np.zeros((), log_dtype(len(checked.names)))
    if whole[:num_kept].any():
        known = entries[np.flatnonzero(whole[:num_kept])[-1]].copy()
    rest = b"".join(entry.tobytes() for entry in _entries_of_the_rest(checked, known, upto))
    replace_document(checked.directory / CHECKS, entries[:num_kept].tobytes() + rest)


def _entries_of_the_rest(
    checked: CheckedRanges, known: Record, upto: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[Record]:
    """Yield entries of what the files hold between the last entry that is kept and their ends."""
    while (known["end"] < upto).any():
        entry = known.copy()
        entry["size"] = entry["crc"] = 0
        for column, name in enumerate(checked.names):
            start = int(known["end"][column])
            size = min(int(upto[column]) - start, _AT_ONCE)
            if size > 0:
                crc = _checksum_of(checked.directory / name, start, size)
                # What was damaged before does not become right by being summed up once more.
                if checked.damaged(name, start, start + size):
                    crc ^= 1
                entry["crc"][column], entry["size"][column] = crc, size
                entry["end"][column] = start + size
        entry["check"] = entry_check(entry)[0]
        yield entry
        known = entry


def _checksum_of(path: Path, start: int, size: int) -> int:
    with os.fdopen(open_file(path), "rb", buffering=0) as file:
        file.seek(start)
        return checksum(file.read(size))
