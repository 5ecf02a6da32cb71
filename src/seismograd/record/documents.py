"""Convert the small JSON documents of a run from and to the values of the schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seismograd.record import layout
from seismograd.record.finding_json import message_from_json, message_to_json
from seismograd.record.layout import EVENTS, FORMAT, PAIRS, RANKS, STEPS
from seismograd.record.pyramid.cells import FACTOR, PYRAMID_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.strict_json import number
from seismograd.record.validation import (
    MAX_COLUMNS,
    MAX_WIDTH,
    build,
    count,
    entry_dtype,
    mapping,
    plain_dtype,
    text,
)
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    SAMPLE_BATCH_DTYPE,
    SCHEMA_VERSION,
    STATISTICS,
    STEP_DTYPE,
    EventFlag,
    EventKind,
    Fact,
    Note,
    Optimizer,
    Origin,
    Parameter,
    RankFlag,
    RunInfo,
    SampleKind,
    SampleSubject,
    Site,
    State,
    Statistic,
    StepFlag,
    sample_dtype,
)

_RECORDED_OF_A_STATISTIC = ("name", "dtype", "unit", "description", "sampled", "width")
_FILE_NAME = re.compile(r"\w{1,64}", re.ASCII)
_DTYPE_KEYS = {STEPS: "step_dtype", EVENTS: "event_dtype", RANKS: "rank_dtype", PAIRS: "pair_dtype"}


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What the columns of a segment's files are: its parameters, in order; the row of the run it
    begins with; its statistics.

    Where parameters keep being added, its files have spare columns: `num_columns` in all.
    Where raw values are kept of some steps only, the files of rows are in parts of `rows_per_part`.
    """

    first_row: int
    statistics: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    num_columns: int
    rows_per_part: int = 0


@dataclass(frozen=True, slots=True)
class RemovedPart:
    """A part of the raw values of a segment that was removed, and how many rows it had."""

    index: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What columns of a segment are from a row of the run on: parameters that took spare columns,
    and others of which more is known by then.
    """

    first_row: int
    columns: tuple[int, ...]
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Meta:
    """The metadata of a run and its files: the statistics by name, and the dtypes of the files with
    entries.

    `has_levels`: its pyramid, if there is one, has the form that this version reads.
    `sample_dtypes`: of the rows of each kind of samples, by its name. `checked`,
    `checked_of_segment`, `checked_of_samples`: the columns of the logs of checksums of the run, of
    each segment and of the samples.
    """

    info: RunInfo
    statistics: Mapping[str, Statistic]
    dtypes: Mapping[str, np.dtype[Any]]
    has_levels: bool = False
    sample_dtypes: Mapping[str, np.dtype[Any]] = field(default_factory=dict[str, np.dtype[Any]])
    checked: tuple[str, ...] = ()
    checked_of_segment: tuple[str, ...] = ()
    checked_of_samples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndCounts:
    """The counts of an orderly end: rows, and the lines of each file of lines."""

    num_rows: int
    num_lines: Mapping[str, int]


def meta_to_json(info: RunInfo) -> dict[str, object]:
    """Return everything needed to read the run's files without seismograd."""
    return {
        "format": FORMAT,
        "schema": SCHEMA_VERSION,
        "how_to_read": "README.txt",
        "run": _flat(info),
        "statistics": [_statistic_to_json(statistic) for statistic in STATISTICS],
        "levels": _levels_to_json(),
        "checked": list(layout.CHECKED_OF_RUN),
        "checked_of_segment": list(layout.checked_of_segment(STATISTICS)),
        "checked_of_samples": list(layout.CHECKED_OF_SAMPLES),
        "step_dtype": STEP_DTYPE.descr,
        "event_dtype": EVENT_DTYPE.descr,
        "rank_dtype": RANK_DTYPE.descr,
        "pair_dtype": PAIR_DTYPE.descr,
        "sample_batch_dtype": SAMPLE_BATCH_DTYPE.descr,
        "sample_dtypes": {str(kind): sample_dtype(kind).descr for kind in SampleKind},
        "states": {str(int(state)): state.name for state in State},
        "event_kinds": {str(int(kind)): kind.name for kind in EventKind},
        "event_flags": {str(int(flag)): flag.name for flag in EventFlag if flag},
        "origins": {str(int(origin)): origin.name for origin in Origin},
        "step_flags": {str(int(flag)): flag.name for flag in StepFlag if flag},
        "rank_flags": {str(int(flag)): flag.name for flag in RankFlag if flag},
    }


def meta_from_json(data: Any) -> Meta:
    """Return the metadata of this or an earlier version."""
    statistics = [_statistic_from_json(each) for each in data["statistics"]]
    return Meta(
        build(RunInfo, data["run"]),
        {each.name: each for each in statistics},
        {name: entry_dtype(data[key]) for name, key in _DTYPE_KEYS.items() if key in data},
        data.get("levels") == _levels_to_json(),
        {
            text(name): entry_dtype(descr)
            for name, descr in mapping(data.get("sample_dtypes", {})).items()
        },
        tuple(text(name) for name in data.get("checked", ())),
        tuple(text(name) for name in data.get("checked_of_segment", ())),
        tuple(text(name) for name in data.get("checked_of_samples", ())),
    )


def _statistic_to_json(statistic: Statistic) -> dict[str, object]:
    """Return what a reader of the numbers must know; what else there is to know of a statistic is
    that of its name.
    """
    flat = _flat(statistic)
    return {name: flat[name] for name in _RECORDED_OF_A_STATISTIC}


def _statistic_from_json(data: Any) -> Statistic:
    name, dtype = data["name"], plain_dtype(data["dtype"])
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise ValueError(name)
    if not 1 <= count(data.get("width", 1)) <= MAX_WIDTH:
        raise ValueError(data["width"])
    recorded_fields = {key: data[key] for key in _RECORDED_OF_A_STATISTIC if key in data}
    recorded = build(Statistic, {**recorded_fields, "dtype": dtype})
    own = next((each for each in STATISTICS if each.name == name), None)
    return recorded if own is None else replace(recorded, kind=own.kind, subject=own.subject)


def _levels_to_json() -> dict[str, object]:
    return {"factor": FACTOR, "statistics": list(PYRAMID_STATISTICS), "steps": list(STEP_SCALARS)}


def segment_to_json(segment: SegmentInfo) -> dict[str, object]:
    """Return the `parameters.json` of a segment, when it begins. One with spare columns has other
    keys, since whoever does not know of them would take the wrong numbers for a row.
    """
    parameters = [_flat(parameter) for parameter in segment.parameters]
    common: dict[str, object] = {
        "first_row": segment.first_row,
        "statistics": list(segment.statistics),
    }
    if segment.rows_per_part:
        common["rows_per_part"] = segment.rows_per_part
    if segment.num_columns == len(parameters):
        return {**common, "parameters": parameters}
    return {**common, "num_columns": segment.num_columns, "first_parameters": parameters}


def segment_from_json(data: Any) -> SegmentInfo:
    """Return the segment that `segment_to_json` wrote."""
    first_row = count(data["first_row"])
    if first_row < 0:
        raise ValueError(first_row)
    spare = "num_columns" in data
    listed = data["first_parameters" if spare else "parameters"]
    parameters = tuple(build(Parameter, each) for each in listed)
    num_columns = count(data["num_columns"]) if spare else len(parameters)
    rows_per_part = count(data.get("rows_per_part", 0))
    if not len(parameters) <= num_columns <= MAX_COLUMNS or rows_per_part < 0:
        raise ValueError(num_columns)
    return SegmentInfo(
        first_row,
        tuple(text(name) for name in data["statistics"]),
        parameters,
        num_columns,
        rows_per_part,
    )


def removed_to_json(part: RemovedPart) -> dict[str, object]:
    """Return a line of `removed.jsonl`."""
    return {"part": part.index, "rows": part.num_rows}


def removed_from_json(data: Any) -> RemovedPart:
    """Return the part that `removed_to_json` wrote."""
    part = RemovedPart(count(data["part"]), count(data["rows"]))
    if part.index < 0 or part.num_rows < 0:
        raise ValueError(part)
    return part


def change_to_json(change: ColumnChange) -> dict[str, object]:
    """Return a line of `changes.jsonl`."""
    return {
        "first_row": change.first_row,
        "columns": list(change.columns),
        "parameters": [_flat(parameter) for parameter in change.parameters],
    }


def change_from_json(data: Any) -> ColumnChange:
    """Return the change that `change_to_json` wrote."""
    columns = tuple(count(each) for each in data["columns"])
    parameters = tuple(build(Parameter, each) for each in data["parameters"])
    if len(columns) != len(parameters):
        raise ValueError(columns)
    return ColumnChange(count(data["first_row"]), columns, parameters)


def end_to_json(end: EndCounts) -> dict[str, object]:
    """Return the `end.json` of a run."""
    return {"rows": end.num_rows, "lines": dict(end.num_lines)}


def end_from_json(data: Any) -> EndCounts:
    """Return the counts that `end_to_json` wrote."""
    lines = {text(name): count(num) for name, num in mapping(data["lines"]).items()}
    return EndCounts(count(data["rows"]), lines)


def lines_to_json(values: Sequence[Site] | Sequence[Optimizer]) -> list[object]:
    """Return one object per site or optimizer."""
    return [_flat(value) for value in values]


def site_from_json(data: Any) -> Site:
    """Return the site in a line of `sites.jsonl`."""
    return build(Site, data)


def optimizer_from_json(data: Any) -> Optimizer:
    """Return the optimizer in a line of `optimizers.jsonl`."""
    return build(Optimizer, data)


def subject_to_json(subject: SampleSubject) -> dict[str, object]:
    """Return a line of `samples/subjects.jsonl`."""
    return _flat(subject)


def subject_from_json(data: Any) -> SampleSubject:
    """Return the subject that `subject_to_json` wrote."""
    return build(SampleSubject, data)


def note_to_json(note: Note) -> dict[str, object]:
    """Return a line of `notes.jsonl`."""
    return {**_flat(note), "message": message_to_json(note.message)}


def note_from_json(data: Any) -> Note:
    """Return the note that `note_to_json` wrote."""
    return build(Note, data, message=message_from_json(data["message"]))


def fact_to_json(fact: Fact) -> dict[str, object]:
    """Return a line of `facts.jsonl`. NaN and infinities, which JSON lacks, are distinguished from
    text.
    """
    numbers = {name: value for name, value in fact.values.items() if not isinstance(value, str)}
    words = {name: value for name, value in fact.values.items() if isinstance(value, str)}
    flat = _flat(fact)
    del flat["values"]
    return {**flat, "numbers": numbers, "words": words}


def fact_from_json(data: Any) -> Fact:
    """Return the fact that `fact_to_json` wrote."""
    numbers = {text(name): number(value) for name, value in mapping(data["numbers"]).items()}
    words = {text(name): text(value) for name, value in mapping(data["words"]).items()}
    return build(Fact, data, values={**numbers, **words})


def _flat(
    value: RunInfo | Statistic | Parameter | Site | Optimizer | Note | Fact | SampleSubject,
) -> dict[str, object]:
    """Return the fields by name, unchanged: `dataclasses.asdict` copies each number, which takes 20
    ms for a thousand parameters.
    """
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}
