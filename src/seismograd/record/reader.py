"""Read a run from disk as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy.typing as npt

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.printable import printable
from seismograd.record import layout
from seismograd.record.branches import branches_of
from seismograd.record.checked_ranges import CheckedRanges
from seismograd.record.compatibility import read_end, read_meta
from seismograd.record.completeness import (
    damage_message,
    kept_steps,
    not_kept_message,
    torn_message,
)
from seismograd.record.entry_files import EntryFiles
from seismograd.record.finding_json import finding_line_from_json, findings_from_lines
from seismograd.record.line_documents import (
    fact_from_json,
    note_from_json,
    optimizer_from_json,
    site_from_json,
)
from seismograd.record.places.place_url import place_of
from seismograd.record.pyramid.pyramid_levels import PyramidLevels
from seismograd.record.recorded_lines import read_lines
from seismograd.record.recovery import IntactPart, intact_part
from seismograd.record.replay import Replay
from seismograd.record.row_reader import RowReader
from seismograd.record.run_arrays import RunArrays
from seismograd.record.run_documents import EndCounts
from seismograd.record.sample_reader import SampleSeries
from seismograd.record.segment import Segment
from seismograd.record.snapshot_reader import Snapshot, read_snapshots, whole_tensor
from seismograd.schema import (
    Conclusion,
    Fact,
    Finding,
    FloatArray,
    IntArray,
    Note,
    Optimizer,
    Parameter,
    RowBatch,
    SampleKind,
    Site,
    StateArray,
)
from seismograd.schema.finding_html import finding_html

_LINE_PARSERS: dict[str, Callable[[Any], Any]] = {
    layout.SITES: site_from_json,
    layout.OPTIMIZERS: optimizer_from_json,
    layout.NOTES: note_from_json,
    layout.FACTS: fact_from_json,
    layout.FINDINGS: finding_line_from_json,
}


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open the run in this directory, with everything that is whole at this moment. A run that is
    still being written can be opened again for more. That of an URL, such as
    `s3://bucket/runs/first`, is fetched into the user's cache first.

    Raises:
        SeismogradError: there is no run, its `meta.json` is torn, or a newer seismograd wrote it.
    """
    url = place_of(path if isinstance(path, str) else Path(path))
    if url is not None:
        from seismograd.record.places.fetching import fetch_run

        return Run(fetch_run(url))
    return Run(Path(path))


class Run:
    """A recorded run: T iterations of P parameters, as it was when it was opened.

    A user's "step" is a row: `steps["iteration"]` has its number, which the row number equals
    unless steps were left out. Columns are `parameters`, the union of all that the run ever had;
    where a parameter was absent, its state is NOT_MEASURED and its numbers NaN.

    Examples:
        >>> import seismograd
        >>> run = seismograd.open_run("runs/20260102T030405Z-train")
        >>> run
        <Run runs/20260102T030405Z-train: train.py, steps: 30, parameters: 4, findings: 1, ended>
        >>> [parameter.name for parameter in run.parameters]
        ['net.0.weight', 'net.0.bias', 'net.1.weight', 'net.1.bias']
        >>> run.steps["loss"][-1].item()
        1.0
        >>> run.series("grad_norm").shape
        (30, 4)
        >>> rows, exponents = run.samples("exponents")
        >>> rows.tolist(), exponents.shape
        ([0, 10, 20], (3, 4, 64))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        meta = read_meta(path)
        self.info = meta.info
        self._branches = branches_of(path)
        self.statistics = tuple(meta.statistics.values())
        self._by_name = meta.statistics
        self._has_levels = meta.has_levels
        self._sample_dtypes = meta.sample_dtypes
        self._checked_samples = CheckedRanges(path / layout.SAMPLES, meta.checked_of_samples)
        self._entries = EntryFiles(
            path, meta.dtypes, len(meta.info.elements), CheckedRanges(path, meta.checked)
        )
        self._end, self._end_is_torn = read_end(path)
        counted = self._end or EndCounts(0, {})
        self._whole = intact_part(
            self._entries, meta.statistics, meta.checked_of_segment, counted.num_rows, self.ended
        )
        self._lines = {
            name: read_lines(
                path / name, parse, counted.num_lines.get(name, 0), name in layout.NUMBERED_LINES
            )
            for name, parse in _LINE_PARSERS.items()
        }

    def __repr__(self) -> str:
        state = "ended" if self.ended else "not ended"
        return (
            f"<Run {self.path}: {self.info.script}, steps: {self._whole.num_rows}, parameters: "
            f"{len(self.parameters)}, "
            f"findings: {len(self.findings)}, {state}>"
        )

    def _repr_html_(self) -> str:
        # What a notebook shows: what `repr` says, and the findings.
        head = f"<code>{escape(printable(repr(self)))}</code>"
        return head + "".join(finding_html(finding) for finding in self.findings)

    def widget(self) -> Any:
        """Return the run as a widget for a cell of a notebook, a
        `seismograd.views.widget.run_widget.RunWidget`; it grows with a run that is still being
        recorded.

        Raises:
            SeismogradError: anywidget is not installed, or the run cannot be read.
        """
        # By name: reading knows of no view.
        making = import_module("seismograd.views.widget.widget_making")
        return making.widget_of_record(self.path)

    @property
    def ended(self) -> bool:
        """Return whether the training ended in an orderly way; if not, it was killed, or is still
        running.
        """
        return self._end is not None

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return all parameters, in the order in which they appeared, each as last described."""
        union: dict[str, Parameter] = {}
        for segment in self._whole.segments:
            union.update((parameter.name, parameter) for parameter in segment.info.parameters)
        return tuple(union.values())

    @property
    def num_rows(self) -> int:
        """Return the number of recorded iterations, T."""
        return self._whole.num_rows

    @property
    def intact(self) -> IntactPart:
        """Return how far it is whole."""
        return self._whole

    @property
    def entry_files(self) -> EntryFiles:
        """Return its files with one entry per row, event, rank or pair of losses."""
        return self._entries

    @property
    def checked_samples(self) -> CheckedRanges:
        """Return the checksums of what was sampled."""
        return self._checked_samples

    @property
    def num_whole_lines(self) -> Mapping[str, int]:
        """Return how many whole lines its files of lines have."""
        return {name: len(lines.values) for name, lines in self._lines.items()}

    @property
    def branches(self) -> tuple[Path, ...]:
        """Return what the record was each time before its training went back to a checkpoint:
        directories of runs, the oldest first.
        """
        return self._branches

    @cached_property
    def levels(self) -> PyramidLevels:
        """Return views of any stretch of the run, summarized in as many columns as requested, from
        a bounded number of bytes.
        """
        path = self.path if self._has_levels else None
        return PyramidLevels(
            path, self._entries, self._whole, self._by_name, self._columns, len(self.parameters)
        )

    @cached_property
    def row_reader(self) -> RowReader:
        """Return the reader of single rows and short stretches, which does not read the rest of the
        run.
        """
        sites, optimizers = self._lines[layout.SITES].values, self._lines[layout.OPTIMIZERS].values
        return RowReader(
            self._entries, self._whole, self.statistics, self._columns, sites, optimizers
        )

    @cached_property
    def steps(self) -> npt.NDArray[Any]:
        """Return one row per iteration  # (T,) STEP_DTYPE."""
        return self._entries.read(layout.STEPS, 0, self._whole.num_rows)

    @property
    def states(self) -> StateArray:
        """Return each gradient's `State`  # (T, P)."""
        return self._arrays.states

    def series(self, name: str) -> FloatArray:
        """Return a statistic of every iteration; NaN where it was not measured or there was no
        gradient  # (T, P).

        A non-finite gradient has the number that was measured, NaN or infinite. A sampled statistic
        is NaN between its samples.

        Raises:
            SeismogradError: there is no such statistic, or it has several numbers per parameter.
        """
        return self._arrays.series(name)

    def samples(self, name: str) -> tuple[IntArray, FloatArray]:
        """Return a sampled statistic: the rows it was measured in  # (S,), and its numbers, NaN as
        in `series`  # (S, P) or (S, P, W).

        Raises:
            SeismogradError: there is no such statistic, or it is measured in every iteration.
        """
        return self._arrays.samples(name)

    def sampled(self, kind: SampleKind | str) -> SampleSeries:
        """Return what was sampled of a kind, `"module_signals"` for example: `steps` that it was
        sampled in  # (B,), and of any stretch of them the subjects and their numbers. It is empty
        where nothing was.

        Raises:
            SeismogradError: there is no such kind, or its files are none of a run.
        """
        if kind not in tuple(SampleKind):
            raise SeismogradError(
                say("nothing of the kind {name} is sampled", name=repr(str(kind))),
                say("available names: {names}", names=", ".join(SampleKind)),
            )
        taken = SampleKind(kind)
        return SampleSeries(self.path, taken, self._sample_dtypes.get(taken), self._checked_samples)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return the whole gradients, weights and batches that were kept, by step: each a file,
        whose tensors are read when they are asked for by name.

        Raises:
            SeismogradError: one of the files is damaged, or none of a run.
        """
        return read_snapshots(self.path)

    def kept_gradient(self, step: int, name: str) -> npt.NDArray[Any]:
        """Return a whole gradient that a snapshot holds, joined from the parts of several
        processes, as the optimizer was given it.

        Raises:
            SeismogradError: there is none, or parts of it are missing.
        """
        return whole_tensor(self.snapshots(), name, step)

    @cached_property
    def events(self) -> npt.NDArray[Any]:
        """Return the intercepted calls, in order, EVENT_DTYPE."""
        return self._entries.read(layout.EVENTS, 0, self._whole.num_entries[layout.EVENTS])

    @cached_property
    def ranks(self) -> npt.NDArray[Any]:
        """Return what is known of each of several processes that trained together, RANK_DTYPE;
        empty for a single one.
        """
        return self._entries.read(layout.RANKS, 0, self._whole.num_entries[layout.RANKS])

    @cached_property
    def pairs(self) -> npt.NDArray[Any]:
        """Return how the gradients of two losses compare, PAIR_DTYPE; empty where they were not
        compared.
        """
        return self._entries.read(layout.PAIRS, 0, self._whole.num_entries[layout.PAIRS])

    @property
    def elements(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the names of the requested elements  # (E,), and their gradients, NaN: not
        measured  # (T, E).
        """
        return self.info.elements, self._entries.elements(0, self._whole.num_rows)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Return what the rules found while the run went on; for one with a `conclusion`, their
        final list.
        """
        return findings_from_lines(self._lines[layout.FINDINGS].values)

    @property
    def conclusion(self) -> Conclusion | None:
        """Return the conclusion of the rules that ran with the training; `None` where they did not
        see all of it.
        """
        last = next(reversed(self._lines[layout.FINDINGS].values), None)
        return last if self.ended and isinstance(last, Conclusion) else None

    @property
    def notes(self) -> tuple[Note, ...]:
        """Return the messages about single incidents."""
        return self._lines[layout.NOTES].values

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Return what was known for certain in addition to the numbers, in the order in which it
        was reported.
        """
        return self._lines[layout.FACTS].values

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Return the places in the user's code that events point to; `?` for those that a torn file
        lost.
        """
        known = self._lines[layout.SITES].values
        return (*known, *[Site("?", 0, "?")] * (self._num_pointed_to("site") - len(known)))

    @cached_property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Return the optimizers that stepped; `?` for those that a torn file lost."""
        known = self._lines[layout.OPTIMIZERS].values
        return (
            *known,
            *(
                Optimizer(index, "?", "?")
                for index in range(len(known), self._num_pointed_to("optimizer"))
            ),
        )

    @cached_property
    def torn(self) -> Message | None:
        """Return a message about what was begun, is not whole and so is left out; `None` when
        nothing is.
        """
        files = [name for name, lines in self._lines.items() if lines.torn]
        # an end has counted the lines; without one they may be fewer than the events refer to
        if not self.ended:
            files += [layout.SITES] * (len(self.sites) > len(self._lines[layout.SITES].values))
            files += [layout.OPTIMIZERS] * (
                len(self.optimizers) > len(self._lines[layout.OPTIMIZERS].values)
            )
        if self._end_is_torn:
            files.append(layout.END)
        return torn_message(self._whole, sorted(set(files)))

    @property
    def checked(self) -> tuple[CheckedRanges, ...]:
        """Return the checksums of the files of the run, and of those of each segment."""
        segments = self._whole.segments
        return (
            self._entries.checked,
            *(segment.checked for segment in segments),
            *(checked for segment in segments for checked in segment.checked_parts),
            self._checked_samples,
        )

    @property
    def damage(self) -> Message | None:
        """Return a message about numbers that are not those that were written, and so count as not
        measured, as far as they have been read by now; `None` without any. `fsck` reads all.
        """
        return damage_message(self._entries.checked, self._whole.segments, self._checked_samples)

    @cached_property
    def kept(self) -> tuple[tuple[int, int], ...]:
        """Return the first and the last step of each stretch whose raw values are there, of a run
        that kept those of some steps only (`--keep`); empty where all are.
        """
        return kept_steps(self._entries, self._whole)

    @property
    def not_kept(self) -> Message | None:
        """Return a message about steps whose raw values were removed (`--keep`); `None` where all
        are there.
        """
        return not_kept_message(self.kept)

    def blocks(
        self, size: int = 1024, start: int = 0, stop: int | None = None
    ) -> Iterator[RowBatch]:
        """Yield rows `start` to `stop` (default: all) in blocks of up to `size`, as rules and sinks
        saw them while the run went on.

        A block never spans two sets of parameters; its parameters are those of its iterations, not
        the union. Rows of which anything is damaged or not kept are left out, as steps are that
        the disk was too slow for.
        """
        start, stop, _ = slice(start, stop).indices(self._whole.num_rows)
        replay = Replay(self._entries, self._whole, self.statistics, self.sites, self.optimizers)
        return replay.whole_blocks(size, start, stop)

    def table(self, name: str = "gradients", **chosen: Any) -> Any:
        """Return a table of the run, a `seismograd.record.tables.run_table.RunTable`, which is read
        when it is converted: `"gradients"` with a row for each step and parameter, `"steps"` or
        `"events"`. `params=` are patterns such as `"fc1.*"`, `steps=` is a slice of step numbers;
        with `level=k` a row of the gradients summarises 8^k steps.

        Raises:
            SeismogradError: there is no such table or level, or a pattern matches nothing.
        """
        from seismograd.record.tables.run_table import RunTable

        return RunTable(self, name, **chosen)

    def to_arrow(self, name: str = "gradients", **chosen: Any) -> Any:
        """Return `table(name, …)` as a `pyarrow.Table`."""
        return self.table(name, **chosen).to_arrow()

    def to_pandas(self, name: str = "gradients", **chosen: Any) -> Any:
        """Return `table(name, …)` as a `pandas.DataFrame`."""
        return self.table(name, **chosen).to_pandas()

    def to_polars(self, name: str = "gradients", **chosen: Any) -> Any:
        """Return `table(name, …)` as a `polars.DataFrame`."""
        return self.table(name, **chosen).to_polars()

    def to_xarray(self, **chosen: Any) -> Any:
        """Return the gradients as an `xarray.Dataset` over steps and parameters."""
        return self.table(**chosen).to_xarray()

    @cached_property
    def _arrays(self) -> RunArrays:
        return RunArrays(self._whole, self._by_name, self._columns, len(self.parameters))

    def _columns(self, segment: Segment) -> list[int]:
        """Return the columns of the union that a segment's parameters have."""
        return [self._column_by_name[parameter.name] for parameter in segment.info.parameters]

    @cached_property
    def _column_by_name(self) -> dict[str, int]:
        return {parameter.name: column for column, parameter in enumerate(self.parameters)}

    def _num_pointed_to(self, field: str) -> int:
        """Return one more than the largest index in this field of the events."""
        return int(self.events[field].max(initial=-1)) + 1
