"""Check that records are of one training, and find what each of them holds of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seismograd.distributed.rank_report import LAYOUT
from seismograd.errors import SeismogradError, unreadable
from seismograd.i18n import say
from seismograd.merging.kept_reports import KeptReports, read_kept
from seismograd.record.reader import Run, open_run
from seismograd.record.run_activity import is_going_on


@dataclass(frozen=True, slots=True)
class RecordParts:
    """The record of rank 0, and the reports of all processes: of each world by rank, rank 0's
    first.
    """

    main: Run
    worlds: tuple[dict[int, KeptReports], ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return the ranks whose reports are there."""
        return tuple(sorted({rank for world in self.worlds for rank in world}))


def read_parts(paths: Sequence[Path]) -> RecordParts:
    """Read the records to merge.

    Raises:
        SeismogradError: they are not the parts of one training, or one cannot be read.
    """
    if len(paths) < 2:
        raise SeismogradError(
            say("there is only one record to merge"),
            say("give that of rank 0 and those of the processes that could not reach it"),
        )
    runs, kept = [open_run(path) for path in paths], [_kept(path) for path in paths]
    for path in paths:
        _require_end(path)
    first = [number for number, each in enumerate(kept) if any(part.rank == 0 for part in each)]
    if not first:
        raise SeismogradError(
            say("none of these records is that of rank 0 with the reports of the others missing"),
            say("give that of rank 0 as well; where all processes reached it, it has everything"),
        )
    if len(first) > 1:
        one, other = (str(paths[number]) for number in first[:2])
        raise SeismogradError(
            say("{one} and {other} are both records of rank 0", one=one, other=other),
            say("give the parts of one training"),
        )
    main = first[0]
    worlds = {part.training: {0: part} for part in kept[main] if part.rank == 0}
    others = [part for number, each in enumerate(kept) if number != main for part in each]
    for path, each in zip(paths, kept, strict=True):
        if not any(part.training in worlds for part in each):
            raise SeismogradError(
                say(
                    "{path} is not a part of the training in {main}",
                    path=str(path),
                    main=str(paths[main]),
                ),
                say("give the parts of one training"),
            )
    for part in (*(part for part in kept[main] if part.rank), *others):
        _add(worlds, part)
    return RecordParts(runs[main], tuple(worlds.values()))


def _add(worlds: dict[str, dict[int, KeptReports]], part: KeptReports) -> None:
    world = worlds.get(part.training)
    if world is None:  # of an earlier or later attempt
        return
    if part.rank in world:
        raise SeismogradError(
            say(
                "rank {rank} is in both {one} and {other}",
                rank=part.rank,
                one=str(world[part.rank].run),
                other=str(part.run),
            ),
            say("give each record once"),
        )
    if part.size != world[0].size or not 0 < part.rank < part.size:
        raise unreadable(part.file, ValueError(f"rank {part.rank} of {part.size}"))
    world[part.rank] = part


def _kept(path: Path) -> tuple[KeptReports, ...]:
    try:
        found = read_kept(path)
    except (ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError) as error:
        raise unreadable(path, error) from error
    if not found:
        raise SeismogradError(
            say("{path} has no reports to merge", path=str(path)),
            say("only processes that could not reach rank 0 keep them, and rank 0 with them"),
        )
    if any(part.layout != LAYOUT for part in found):
        raise SeismogradError(
            say("{path} was written by another version of seismograd", path=str(path)),
            say("merge it with that version"),
        )
    return found


def _require_end(path: Path) -> None:
    if is_going_on(path):
        raise SeismogradError(
            say("{path} is still being written, so it cannot be merged now", path=str(path)),
            say("wait until the training has ended, or a minute after it was killed"),
        )
