"""Mend a record as far as it can be: nothing is removed that any reader shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.append_file import replace_document
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.checksums import CHECKS, Record, checksum, entry_check, log_dtype
from seismograd.record.inspection import DamageKind, Inspection, damaged_lines
from seismograd.record.recorded_files import file_size, open_file

_AT_ONCE = 2**24  # bytes of a file that one new entry of a log is about


def mend(inspection: Inspection) -> None:
    """Remove lines that are damaged, and levels of which a part is (readers sum them up again);
    take what the log of checksums does not know for right. The same in the branches.

    Altered numbers stay: what they were is nowhere, and the log keeps them from being shown.

    Raises:
        OSError: the record cannot be written.
    """
    for each in (inspection, *inspection.branches):
        _mend_one(each)


def _mend_one(inspection: Inspection) -> None:
    if not inspection.damage:
        return
    run = inspection.run.path
    for damage in inspection.damage:
        is_level = Path(damage.file).parent.name == layout.LEVELS
        if damage.kind == DamageKind.ALTERED and is_level:
            (run / damage.file).unlink(missing_ok=True)
    for name in {each.file for each in inspection.damage if each.kind == DamageKind.LINE}:
        _mend_lines(run / name)
    for checked in inspection.run.checked:
        if checked.exists:
            _mend_log(checked)


def _mend_lines(path: Path) -> None:
    damaged = set(damaged_lines(path))
    lines = path.read_bytes().split(b"\n")
    end = min(damaged) if path.name in (*layout.NUMBERED_LINES, layout.CHANGES) else len(lines)
    kept = [line + b"\n" for index, line in enumerate(lines[:end]) if index not in damaged and line]
    replace_document(path, b"".join(kept))


def _mend_log(checked: CheckedRanges) -> None:
    """Write the log anew: its whole entries, and new ones for what follows in each file."""
    known = np.zeros((), log_dtype(len(checked.names)))
    entries: list[Record] = []
    for entry in (each for some in checked.entries() for each in some):
        # What an entry was about that is damaged itself.
        entries += _new_entries(checked, known, (entry["end"] - entry["size"]).tolist())
        entries.append(entry)
        known = entry.copy()
    entries += _new_entries(checked, known, [2**62] * len(checked.names))
    content = b"".join(entry.tobytes() for entry in entries)
    if content != (checked.directory / CHECKS).read_bytes():
        replace_document(checked.directory / CHECKS, content)


def _new_entries(checked: CheckedRanges, known: Record, ends: Sequence[int]) -> Iterator[Record]:
    """Yield entries of what the files hold beyond an entry, up to these ends."""
    while True:
        entry = known.copy()
        entry["size"] = entry["crc"] = 0
        for column, name in enumerate(checked.names):
            path, start = checked.directory / name, int(known["end"][column])
            size = min(min(file_size(path) or 0, ends[column]) - start, _AT_ONCE)
            if size > 0:
                with os.fdopen(open_file(path), "rb", buffering=0) as file:
                    file.seek(start)
                    entry["crc"][column] = checksum(file.read(size))
                entry["size"][column] = size
                entry["end"][column] = start + size
        if not entry["size"].any():
            return
        entry["check"] = entry_check(entry)[0]
        yield entry
        known = entry
