"""Compare all of a record with its checksums, its branches included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import Message
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
    CLOSED = "closed"  # a branch that cannot be opened


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes `start` to `stop` of a file of a record, or its lines, or entries of its log.

    `branch`: the number of the branch that it is in, 0 for the record itself. `reason`: why a
    branch cannot be opened.
    """

    file: str
    kind: DamageKind
    start: int
    stop: int
    branch: int = 0
    reason: Message | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """A run, and everything that is wrong with its files. `num_checked` bytes were compared; none
    of a record of before there were checksums. `branches` are those that can be opened.
    """

    run: Run
    damage: tuple[Damage, ...]  # its own
    num_checked: int
    branches: tuple[Inspection, ...] = ()
    closed: tuple[Damage, ...] = ()  # the branches that cannot be opened

    @property
    def all_damage(self) -> tuple[Damage, ...]:
        """Return the damage of the record and of its branches, whose files are named from the
        record.
        """
        of_branches = [
            replace(
                each,
                file=f"{layout.BRANCHES}/{branch.run.path.name}/{each.file}",
                branch=int(branch.run.path.name),
            )
            for branch in self.branches
            for each in branch.damage
        ]
        later = sorted([*of_branches, *self.closed], key=lambda each: each.branch)
        return (*self.damage, *later)

    @property
    def all_checked(self) -> int:
        """Return how many bytes were compared of the record and of its branches."""
        return self.num_checked + sum(branch.num_checked for branch in self.branches)


def inspect(path: Path) -> Inspection:
    """Read all of a run and of its branches, and compare it with its checksums.

    Raises:
        SeismogradError: it cannot be opened.
    """
    found = _inspect_one(path)
    branches: list[Inspection] = []
    closed: list[Damage] = []
    for branch in found.run.branches:
        try:
            branches.append(_inspect_one(branch))
        except SeismogradError as error:
            file = f"{layout.BRANCHES}/{branch.name}"
            number = int(branch.name)
            closed.append(Damage(file, DamageKind.CLOSED, 0, 0, number, error.message))
    return replace(found, branches=tuple(branches), closed=tuple(closed))


def _inspect_one(path: Path) -> Inspection:
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
