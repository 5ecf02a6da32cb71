"""Compare all of a record with its checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.checksums import CHECKS
from seismograd.record.reader import Run, open_run
from seismograd.record.recorded_files import file_size, read_whole_lines
from seismograd.record.seals import loads_sealed


class DamageKind(StrEnum):
    """What can be wrong with bytes of a record."""

    ALTERED = "altered"  # they are not what was written
    CUT = "cut"  # they were written, and are missing
    UNKNOWN = "unknown"  # the log of checksums knows nothing of them
    LINE = "line"  # a line that is damaged or not whole
    LOG = "log"  # an entry of the log of checksums


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes `start` to `stop` of a file of a record, or its lines, or entries of its log."""

    file: str
    kind: DamageKind
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """A run, and everything that is wrong with its files. `num_checked` bytes were compared; none
    of a record of before there were checksums.
    """

    run: Run
    damage: tuple[Damage, ...]
    num_checked: int


def inspect(path: Path) -> Inspection:
    """Read all of a run and compare it with its checksums.

    Raises:
        SeismogradError: it cannot be opened.
    """
    run = open_run(path)
    damage: list[Damage] = []
    num_checked = 0
    for checked in run.checked:
        damage += _damage_of_files(run.path, checked)
        num_checked += sum(file_size(checked.directory / name) or 0 for name in checked.names)
    damage += _damage_of_lines(run.path)
    return Inspection(run, tuple(damage), num_checked if _has_log(run) else 0)


def _has_log(run: Run) -> bool:
    return any(checked.exists for checked in run.checked)


def _damage_of_files(run: Path, checked: CheckedRanges) -> Iterator[Damage]:
    if not checked.exists:
        return
    directory = checked.directory.relative_to(run)
    for name in checked.names:
        file = (directory / name).as_posix()
        size, known = file_size(checked.directory / name) or 0, checked.end(name) or 0
        for start, stop in checked.damaged(name, 0, known):
            if stop <= size:
                yield Damage(file, DamageKind.ALTERED, start, stop)
        is_level = Path(name).parent.name == layout.LEVELS  # readers sum up what is missing
        if size < known and not is_level:
            yield Damage(file, DamageKind.CUT, size, known)
        if size > known:
            yield Damage(file, DamageKind.UNKNOWN, known, size)
    if num_entries := checked.num_damaged_entries():
        yield Damage((directory / CHECKS).as_posix(), DamageKind.LOG, 0, num_entries)


def _damage_of_lines(run: Path) -> Iterator[Damage]:
    of_segments = sorted(
        path
        for name in (layout.CHANGES, layout.REMOVED)
        for path in run.glob(f"{layout.SEGMENTS}/*/{name}")
    )
    for name in (*layout.LINE_FILES, *(path.relative_to(run).as_posix() for path in of_segments)):
        for number in damaged_lines(run / name):
            yield Damage(name, DamageKind.LINE, number, number + 1)


def damaged_lines(path: Path) -> list[int]:
    """Return the numbers of the lines of a file, from 0, that are damaged or not whole."""
    damaged: list[int] = []
    try:
        for number, line in enumerate(read_whole_lines(path)):
            try:
                if line is None:
                    raise ValueError("not whole")
                loads_sealed(line)
            except ValueError:
                damaged.append(number)
    except FileNotFoundError:
        pass
    return damaged
