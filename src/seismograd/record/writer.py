"""Write numbers to disk: each batch is appended to the files of a run, `steps.bin` last."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import say, translate
from seismograd.record import layout
from seismograd.record.append_file import AppendFile, replace_document, sync_file
from seismograd.record.checksums import CheckedFile, ChecksumWriter
from seismograd.record.finding_json import conclusion_to_json, finding_to_json
from seismograd.record.line_documents import fact_to_json, lines_to_json, note_to_json
from seismograd.record.pyramid.pyramid_builder import PyramidBuilder
from seismograd.record.pyramid.pyramid_reader import ALL
from seismograd.record.pyramid.step_scalars import STATISTICS as STEP_STATISTICS
from seismograd.record.pyramid.step_scalars import (
    STEP_SCALARS,
    STEPS,
    states_of_values,
    step_values,
)
from seismograd.record.raw_keeper import RawKeeper
from seismograd.record.readme_text import HOW_TO_READ
from seismograd.record.run_claim import STARTED, claim
from seismograd.record.run_documents import EndCounts, end_to_json, meta_to_json
from seismograd.record.run_lock import RunLock
from seismograd.record.sample_writer import SampleWriter
from seismograd.record.seals import dumps_sealed
from seismograd.record.segment_writer import SegmentWriter
from seismograd.record.size_limit import SizeLimit
from seismograd.schema import (
    AnyArray,
    Conclusion,
    Fact,
    Finding,
    Note,
    RowBatch,
    RunInfo,
    SampleBatch,
    row_ends,
)
from seismograd.settings.record_settings import RecordSettings

if TYPE_CHECKING:
    from seismograd.record.reader import Run


class Writer:
    """A sink that records a run in a directory of its own.

    Nothing is buffered in the process: when `observe` returns, the rows are with the operating
    system. So they survive the end of the process by any signal, and a fork has nothing to write
    twice. `steps.bin` comes last because a row counts once its step is there: a write that is cut
    short anywhere leaves a whole, shorter run. After an error nothing more is written, since no row
    behind a torn one could be read.

    Args:
        path: the directory of the run.
        info: what is known of the run before its first step.
        settings: how it is written.
        lock: on that directory, where it is held already.
        before: what the directory holds, of a run that goes on behind its last row.

    Raises:
        SeismogradError: the directory cannot be written, or holds a run.
    """

    def __init__(
        self,
        path: Path,
        info: RunInfo,
        settings: RecordSettings | None = None,
        lock: RunLock | None = None,
        before: Run | None = None,
    ) -> None:
        self.path = path
        self._num_elements = len(info.elements)
        self._num_rows = 0
        self._num_entries = dict.fromkeys(layout.ENDS, 0)
        self._num_lines: dict[str, int] = dict.fromkeys(layout.LINE_FILES, 0)
        self._num_segments = 0
        self._num_grown = 0  # segments that were begun because parameters had been added
        self._segment: SegmentWriter | None = None
        self._files: dict[str, AppendFile] = {}
        self._samples = SampleWriter(path)
        self._checks: ChecksumWriter | None = None
        self._levels: PyramidBuilder | None = None
        self._sync_s = None if settings is None else settings.sync_s
        self._synced = time.monotonic()
        self._limit = SizeLimit(path, None if settings is None else settings.max_bytes)
        kept = None if settings is None else settings.keep_raw
        self._keeper = None if kept is None else RawKeeper(kept)
        self._closed = False
        self._failure: BaseException | None = None
        self._lock = lock
        try:
            if before is not None:
                self._go_on(before)
                return
            path.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # of this program: others never come here
                claim(path, info.script)
            self._files[layout.STEPS] = AppendFile(path / layout.STEPS)
            self._lock = RunLock(path)
            checks = self._checks = ChecksumWriter(path, layout.CHECKED_OF_RUN)
            for name in layout.ENTRY_DTYPES:
                if name != layout.STEPS:
                    self._files[name] = CheckedFile(path, name, checks)
            self._levels = PyramidBuilder(path, len(STEP_SCALARS), STEP_STATISTICS, checks)
            (path / layout.README).write_text(translate(HOW_TO_READ), encoding="utf-8")
            # Last: a directory with this file is a run, so everything else must be there by then.
            replace_document(path / layout.META, dumps_sealed(meta_to_json(info), 1) + b"\n")
        except OSError as error:
            self._close_files()
            reason = error.strerror or str(error)
            raise SeismogradError(
                say("cannot write a run to {path}: {reason}", path=str(path), reason=reason),
                say("choose another directory with --out DIR"),
            ) from error

    def _go_on(self, run: Run) -> None:
        """Open the files of a record that ends with whole rows, to append to them."""
        self._num_rows = run.num_rows
        self._num_entries.update(run.intact.num_entries)
        self._num_lines.update(run.num_whole_lines)
        self._num_segments = len(run.intact.segments)
        entries, levels = run.entry_files, run.levels.of_steps
        self._files[layout.STEPS] = AppendFile(self.path / layout.STEPS, goes_on=True)
        ends = [entries.checked.end(name) or 0 for name in entries.checked.names]
        checks = self._checks = ChecksumWriter(self.path, layout.CHECKED_OF_RUN, ends)
        for name in layout.ENTRY_DTYPES:
            if name != layout.STEPS:
                self._files[name] = CheckedFile(self.path, name, checks, goes_on=True)
        self._levels = PyramidBuilder(self.path, len(STEP_SCALARS), STEP_STATISTICS, checks)
        self._levels.go_on(
            run.num_rows,
            lambda level, start, stop: levels.cells(level, start, stop, [STEPS]),
            lambda start, stop: levels.read_rows(start, stop, ALL, [STEPS]),
        )
        self._samples.go_on(run.checked_samples)
        if self._keeper is not None:
            self._keeper.go_on(run)

    def observe(self, batch: RowBatch) -> None:
        """Append the iterations of a batch, whose numbers are in the dtypes of the record
        (`schema.concatenate`); raises `OSError` when the disk rejects them.
        """
        with self._giving_up_on_error():
            # First what rows point to: whoever reads along never finds an index without its line.
            self._append_lines(
                layout.SITES, lines_to_json(batch.sites[self._num_lines[layout.SITES] :])
            )
            self._append_lines(
                layout.OPTIMIZERS,
                lines_to_json(batch.optimizers[self._num_lines[layout.OPTIMIZERS] :]),
            )
            if len(batch) and self._limit.fits(len(batch)):
                self._append_rows(batch)
            if self._sync_s is not None and time.monotonic() - self._synced >= self._sync_s:
                self._sync()

    def note(self, note: Note) -> None:
        """Append a note."""
        with self._giving_up_on_error():
            self._append_lines(layout.NOTES, [note_to_json(note)])

    def learn(self, fact: Fact) -> None:
        """Append a fact."""
        with self._giving_up_on_error():
            self._append_lines(layout.FACTS, [fact_to_json(fact)])

    def sampled(self, batch: SampleBatch) -> None:
        """Append what was sampled in a step."""
        with self._giving_up_on_error():
            if not self._limit.num_left_out:
                self._samples.append(batch)

    def finding(self, finding: Finding) -> None:
        """Append a finding, or a later version of one (`findings.is_later_version`).

        It is called from within another sink, so an error is kept and raised by the next call of
        `observe`, `note` or `close`.
        """
        self._append_findings([finding_to_json(finding)])
        if self._keeper is not None:
            self._keeper.finding(finding)

    def replace_findings(self, findings: Sequence[Finding]) -> None:
        """Write the findings anew: those that the rules have of the rows so far; errors as in
        `finding`.
        """
        try:
            lines = [finding_to_json(each) for each in findings]
            content = b"".join(dumps_sealed(line) + b"\n" for line in lines)
            replace_document(self.path / layout.FINDINGS, content)
            self._num_lines[layout.FINDINGS] = len(lines)
        except OSError as error:
            self._failure = error
        if self._keeper is not None:
            for finding in findings:
                self._keeper.finding(finding)

    def conclude(self, conclusion: Conclusion) -> None:
        """Append the conclusion, whose findings replace everything found while the run went on;
        errors as in `finding`.
        """
        self._append_findings([conclusion_to_json(conclusion)])

    def close(self) -> None:
        """Mark the orderly end and close the files. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with self._giving_up_on_error():
                if self._limit.num_left_out:
                    self._append_lines(layout.NOTES, [note_to_json(self._limit.note())])
                self._flush_levels()
                replace_document(
                    self.path / layout.END,
                    dumps_sealed(end_to_json(EndCounts(self._num_rows, self._num_lines))) + b"\n",
                )
                if self._sync_s is not None:
                    self._sync()
        finally:
            self._close_files()

    def abandon(self) -> None:
        """Close the files without an end, as a killed process leaves them."""
        self._closed = True
        self._close_files()

    def _append_rows(self, batch: RowBatch) -> None:
        # The files of a segment have fixed columns, so that a row is found by its number alone:
        # other parameters need other files.
        if self._segment is None or not self._segment.fits(batch):
            self._begin_segment(batch)
        assert self._segment is not None
        assert self._checks is not None
        assert self._levels is not None
        first_row, num_rows = self._num_rows, len(batch)
        self._segment.append(batch, first_row)
        if self._num_elements:
            self._append(layout.ELEMENTS, batch.elements.reshape(num_rows, self._num_elements))
        self._append_list(layout.EVENTS, batch.events, batch)
        self._append_list(layout.RANKS, batch.ranks, batch)
        self._append_list(layout.PAIRS, batch.pairs, batch)
        values = step_values(batch.steps)
        self._levels.append(states_of_values(values, batch.steps, batch.state), {STEPS: values})
        # Last of all: a row counts once its step is there, so a write that is cut short anywhere
        # leaves a shorter run and not a wrong one.
        steps = layout.raw(np.asarray(batch.steps, layout.ENTRY_DTYPES[layout.STEPS]))
        self._checks.add(layout.STEPS, steps)
        self._checks.commit()
        self._files[layout.STEPS].write(steps)
        self._num_rows += num_rows
        self._remove_old(batch)

    def _remove_old(self, batch: RowBatch) -> None:
        if self._keeper is not None and self._segment is not None:
            last_step = int(batch.steps["iteration"][-1])
            self._keeper.remove_old(self._segment.closed_parts, last_step)

    def _flush_levels(self) -> None:
        """Write the cells that are still held."""
        if self._segment is not None:
            self._segment.flush()
        if self._levels is not None and self._checks is not None:
            self._levels.flush()
            self._checks.commit()

    def _append_list(self, name: str, listed: AnyArray, batch: RowBatch) -> None:
        self._append(name, listed)
        self._append(layout.ENDS[name], row_ends(listed, batch.steps) + self._num_entries[name])
        self._num_entries[name] += len(listed)

    def _begin_segment(self, batch: RowBatch) -> None:
        num_spare = 0
        if self._segment is not None:
            self._segment.finish()
            self._remove_old(batch)
            if self._segment.is_grown(batch):
                # Where parameters are added again and again there is not a segment for each time;
                # where it happens once, next to no room is spent on it.
                num_spare = min(len(batch.parameters), 4**self._num_grown)
                self._num_grown += 1
        path = layout.segment_path(self.path, self._num_segments)
        size = 0 if self._keeper is None else self._keeper.rows_per_part
        syncs = self._sync_s is not None
        self._segment = SegmentWriter(path, batch, self._num_rows, num_spare, size, syncs)
        self._num_segments += 1

    def _append(self, name: str, values: AnyArray) -> None:
        self._files[name].write(layout.raw(np.asarray(values, layout.ENTRY_DTYPES[name])))

    def _append_lines(self, name: str, lines: Sequence[object]) -> None:
        if lines:
            # Opened each time: lines are rare, and most runs never have some of these files.
            with (self.path / name).open("ab") as file:
                file.write(b"".join(dumps_sealed(line) + b"\n" for line in lines))
            self._num_lines[name] += len(lines)

    def _sync(self) -> None:
        """Wait until everything is on the disk, `steps.bin` last."""
        if self._segment is not None:
            self._segment.sync()
        for name, file in self._files.items():
            if name != layout.STEPS:
                file.sync()
        for name in (STARTED, layout.META, layout.END, *layout.LINE_FILES):
            sync_file(self.path / name)
        if self._levels is not None:
            self._levels.sync()
        self._samples.sync()
        if self._checks is not None:
            self._checks.sync()
        self._files[layout.STEPS].sync()
        sync_file(self.path)
        self._synced = time.monotonic()

    def _append_findings(self, lines: Sequence[object]) -> None:
        if self._failure is not None:
            return
        try:
            self._append_lines(layout.FINDINGS, lines)
        except OSError as error:
            self._failure = error

    @contextmanager
    def _giving_up_on_error(self) -> Generator[None]:
        try:
            if self._failure is not None:
                raise self._failure
            yield
        except BaseException as error:  # also Ctrl-C: the row it hit is torn
            self._failure = error
            self._closed = True
            self._close_files()
            raise

    def _close_files(self) -> None:
        for file in (*self._files.values(), self._checks, self._samples, self._levels):
            if file is not None:
                file.close()
        if self._segment is not None:
            self._segment.close()
        if self._lock is not None:
            self._lock.close()
