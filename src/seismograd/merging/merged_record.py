"""Write the records of one training as one."""

from __future__ import annotations

import shutil
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seismograd.diagnosis.rule import Rule
from seismograd.diagnosis.whole_record import diagnose
from seismograd.errors import SeismogradError, unreadable
from seismograd.i18n import say
from seismograd.merging.merged_rows import MergedRows
from seismograd.merging.record_parts import RecordParts, read_parts
from seismograd.pipeline.batch import Queued, batch_bytes, take_batches
from seismograd.pipeline.sketch_samples import sketch_samples
from seismograd.record.reader import Run, open_run
from seismograd.record.run_directory import create_run_directory
from seismograd.record.writer import Writer
from seismograd.schema import (
    FactKind,
    Note,
    RowBatch,
    SampleBatch,
    SampleKind,
    concatenate,
)
from seismograd.schema.snapshots import FOLDER, is_snapshot_file

MERGED = "merged"  # the kind of the notes about it
# What rank 0 said about reports that it missed.
_OF_MISSING = ("rank", "ranks")
_AT_ONCE = 16 * 2**20  # bytes of rows that are written together

Counted = Callable[[Iterable[tuple[RowBatch, int]], int], Iterable[RowBatch]]


@dataclass(frozen=True, slots=True)
class Merged:
    """The record that was made, and how many of its rows were made anew."""

    run: Run
    ranks: tuple[int, ...]
    num_rows: int


def merge(
    paths: Sequence[Path],
    out: Path | None,
    rules: Sequence[Callable[[], Rule]],
    counted: Counted,
) -> Merged:
    """Write one record of several: that of rank 0, with what the others kept.

    Args:
        paths: the records.
        out: where to; `None`: beside that of rank 0.
        rules: judge the result.
        counted: passes blocks on, and knows how many rows each has and all have.

    Raises:
        SeismogradError: they cannot be merged, and nothing was written.
    """
    parts = read_parts(paths)
    main = parts.main
    if main.kept:
        raise SeismogradError(
            say("{path} has no raw values of some of its steps (--keep)", path=str(main.path)),
            say("records of several nodes need all of them"),
        )
    beside = main.path.with_name(f"{main.path.absolute().name}-merged")
    path = create_run_directory(beside if out is None else out, main.info.script)
    try:
        return _write(parts, path, rules, counted)
    except BaseException as error:
        shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, ValueError | KeyError | IndexError | struct.error):
            raise unreadable(main.path, error) from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise SeismogradError(
                say("cannot write a run to {path}: {reason}", path=str(path), reason=reason)
            ) from error
        raise


def _write(
    parts: RecordParts, path: Path, rules: Sequence[Callable[[], Rule]], counted: Counted
) -> Merged:
    main = parts.main
    writer = Writer(path, main.info)
    rows = MergedRows(parts.worlds, writer.learn, writer.note)
    for fact in main.facts:
        if fact.kind != FactKind.OWNERSHIP:
            writer.learn(fact)
    for kind in SampleKind:
        if kind is not SampleKind.GRADIENT_SKETCH:
            for batch in main.sampled(kind):
                writer.sampled(batch)
    num_read = num_anew = 0
    sketches = _Sketches(main, rows.steps)
    blocks = counted(((block, len(block)) for block in main.blocks()), main.num_rows)
    for block in blocks:
        num_read += len(block)
        num_anew += sum(step in rows.steps for step in block.steps["iteration"].tolist())
        _append(writer, rows.rows(block), sketches)
    for note in (*_kept_notes(main), *_notes(parts, rows), *_left_out(main.num_rows - num_read)):
        writer.note(note)
    _copy_snapshots(main.path, path)
    _judge(writer, main.ended, rules)
    for world in parts.worlds:
        for part in world.values():
            part.close()
    return Merged(open_run(path), parts.ranks, num_anew)


def _append(writer: Writer, rows: Iterable[RowBatch], sketches: _Sketches) -> None:
    """Write rows, as many at once as have the same columns."""
    queue: deque[Queued] = deque()
    num_bytes = 0
    for row in rows:
        for batch in sketches.before(row):
            writer.sampled(batch)
        queue.append(row)
        num_bytes += batch_bytes(row)
        if num_bytes > _AT_ONCE:
            _flush(writer, queue)
            num_bytes = 0
    _flush(writer, queue)


def _flush(writer: Writer, queue: deque[Queued]) -> None:
    while queue:
        writer.observe(concatenate(take_batches(queue, _AT_ONCE)))


class _Sketches:
    """The sketches of the merged record, in the order of steps: of rows that are made anew theirs,
    of others those of rank 0.
    """

    def __init__(self, main: Run, anew: frozenset[int]) -> None:
        self._recorded = (
            batch for batch in main.sampled(SampleKind.GRADIENT_SKETCH) if batch.step not in anew
        )
        self._next = next(self._recorded, None)

    def before(self, rows: RowBatch) -> Iterator[SampleBatch]:
        """Yield those of these rows."""
        last = int(rows.steps["iteration"][-1])
        while self._next is not None and self._next.step <= last:
            yield self._next
            self._next = next(self._recorded, None)
        yield from sketch_samples(rows)


def _kept_notes(main: Run) -> list[Note]:
    return [each for each in main.notes if each.kind not in _OF_MISSING]


def _notes(parts: RecordParts, rows: MergedRows) -> list[Note]:
    """Return what there is to say about the merging: what it is of, and what is still missing."""
    ranks = ", ".join(map(str, parts.ranks))
    notes = [
        Note(
            MERGED,
            -1,
            say("merged from the records of several processes: ranks {ranks}", ranks=ranks),
        )
    ]
    for rank, num in sorted(rows.num_missing.items()):
        first = rows.first_missing[rank]
        message = (
            say(
                "rank {rank} did not report {num} {num:step|steps}, the first of them {step}: what "
                "only it holds is not measured there",
                rank=rank,
                num=num,
                step=first,
            )
            if rank in parts.ranks
            else say(
                "there was no record of rank {rank} to merge: what only it holds is not measured",
                rank=rank,
            )
        )
        notes.append(Note(MERGED, -1, message))
    for world in parts.worlds:
        for rank, part in sorted(world.items()):
            notes += [
                Note("failure", -1, say("rank {rank}: {text}", rank=rank, text=text))
                for text in part.notes
            ]
    return notes


def _left_out(num: int) -> list[Note]:
    message = say("damaged steps of rank 0 that were left out in merging: {count}", count=num)
    return [Note(MERGED, -1, message)] if num else []


def _copy_snapshots(source: Path, target: Path) -> None:
    folder = source / FOLDER
    if folder.is_dir() and not folder.is_symlink():
        for path in sorted(folder.iterdir()):
            if is_snapshot_file(path.name) and path.is_file() and not path.is_symlink():
                (target / FOLDER).mkdir(exist_ok=True)
                shutil.copyfile(path, target / FOLDER / path.name)


def _judge(writer: Writer, ended: bool, rules: Sequence[Callable[[], Rule]]) -> None:
    """Have the rules judge the whole; a training that was killed stays one."""
    run = open_run(writer.path)
    diagnosis = diagnose(
        run.blocks(), rules, run.notes, run.facts, run.info.fact_kinds, run.sampled
    )
    for finding in diagnosis.findings():
        writer.finding(finding)
    if ended:
        writer.conclude(diagnosis.conclusion())
        writer.close()
    else:
        writer.abandon()
