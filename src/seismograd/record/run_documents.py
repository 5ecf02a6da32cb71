"""Convert `meta.json`, which says what the files of a run are, and `end.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seismograd.record import layout
from seismograd.record.layout import EVENTS, FORMAT, PAIRS, RANKS, STEPS
from seismograd.record.pyramid.cells import FACTOR, PYRAMID_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.validation import (
    MAX_WIDTH,
    build,
    count,
    entry_dtype,
    fields_of,
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
    Origin,
    RankFlag,
    RunInfo,
    SampleKind,
    State,
    Statistic,
    StepFlag,
    sample_dtype,
)

_RECORDED_OF_A_STATISTIC = ("name", "dtype", "unit", "description", "sampled", "width")
_FILE_NAME = re.compile(r"\w{1,64}", re.ASCII)
_DTYPE_KEYS = {STEPS: "step_dtype", EVENTS: "event_dtype", RANKS: "rank_dtype", PAIRS: "pair_dtype"}


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
        "run": fields_of(info),
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
    fields = fields_of(statistic)
    return {name: fields[name] for name in _RECORDED_OF_A_STATISTIC}


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


def end_to_json(end: EndCounts) -> dict[str, object]:
    """Return the `end.json` of a run."""
    return {"rows": end.num_rows, "lines": dict(end.num_lines)}


def end_from_json(data: Any) -> EndCounts:
    """Return the counts that `end_to_json` wrote."""
    lines = {text(name): count(num) for name, num in mapping(data["lines"]).items()}
    return EndCounts(count(data["rows"]), lines)
