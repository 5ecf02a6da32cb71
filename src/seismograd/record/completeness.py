"""Say what of a run is torn, damaged or not kept."""

from __future__ import annotations

from collections.abc import Sequence

from seismograd.i18n import Message, say
from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.entry_files import EntryFiles
from seismograd.record.pyramid.cells import FACTOR
from seismograd.record.recovery import IntactPart
from seismograd.record.segment import Segment

_STRETCHES_TOLD = 4


def torn_message(whole: IntactPart, files: Sequence[str]) -> Message | None:
    """Return a message about what was begun and left out; `files` are those with a torn last
    line.
    """
    names = ", ".join(files)
    if whole.num_lost and files:
        return say(
            "complete steps: {rows}; at least {lost} more and the end of {files} were cut off (the "
            "run was killed while writing, or is still writing)",
            rows=whole.num_rows,
            lost=whole.num_lost,
            files=names,
        )
    if whole.num_lost:
        return say(
            "complete steps: {rows}; steps cut off: at least {lost} (the run was killed while "
            "writing, or is still writing)",
            rows=whole.num_rows,
            lost=whole.num_lost,
        )
    if files:
        return say(
            "the end of {files} was cut off (the run was killed while writing, or is still "
            "writing)",
            files=names,
        )
    return None


def damage_message(
    entries: CheckedRanges, segments: Sequence[Segment], samples: CheckedRanges
) -> Message | None:
    """Return a message about numbers that are not those that were written, as far as they have been
    read by now; `None` without any.
    """
    names = sorted(entries.known)
    for segment in segments:
        logs = (segment.checked, *segment.checked_parts)
        names += [
            f"{segment.path.name}/{name}" for name in sorted({n for g in logs for n in g.known})
        ]
    names += [f"{layout.SAMPLES}/{name}" for name in sorted(samples.known)]
    if not names:
        return None
    return say(
        "some numbers in {files} are damaged and shown as not measured; `seismograd fsck` says "
        "which",
        files=", ".join(names),
    )


def kept_steps(entries: EntryFiles, whole: IntactPart) -> tuple[tuple[int, int], ...]:
    """Return the first and the last step of each stretch whose raw values are there; empty where
    all are.
    """
    kept: list[list[int]] = []
    is_all = True
    for segment, start, stop in whole.spans():
        is_all &= not segment.not_kept(0, stop - start)
        for _, begin, end in segment.pieces(0, stop - start):
            if kept and kept[-1][1] == start + begin:
                kept[-1][1] = start + end
            else:
                kept.append([start + begin, start + end])
    if is_all:
        return ()
    return tuple((_step_of(entries, begin), _step_of(entries, end - 1)) for begin, end in kept)


def not_kept_message(kept: Sequence[tuple[int, int]]) -> Message | None:
    """Return a message about steps whose raw values were removed, where only those of `kept` are
    there; `None` where all are.
    """
    if not kept:
        return None
    told = [f"{first}–{last}" for first, last in kept[-_STRETCHES_TOLD:]]
    return say(
        "raw values of steps {steps} only, as --keep asked for; of the others the smallest, "
        "largest and last norms of each {num} steps are there",
        steps=", ".join(["…"] * (len(told) < len(kept)) + told),
        num=FACTOR,
    )


def _step_of(entries: EntryFiles, row: int) -> int:
    return int(entries.read(layout.STEPS, row, row + 1)["iteration"][0])
