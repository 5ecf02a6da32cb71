"""Convert the small JSON documents of a run from and to the values of the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from seismograd.record.finding_json import message_from_json, message_to_json
from seismograd.record.layout import EVENTS, FORMAT, PAIRS, RANKS, STEPS
from seismograd.record.pyramid.cells import FACTOR, PYRAMID_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.strict_json import number
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
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
    Site,
    State,
    Statistic,
    StepFlag,
)

_DTYPE_KEYS = {STEPS: "step_dtype", EVENTS: "event_dtype", RANKS: "rank_dtype", PAIRS: "pair_dtype"}


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What the columns of a segment's files are: its parameters, in order; the row of the run it
    begins with; its statistics.
    """

    first_row: int
    statistics: tuple[str, ...]
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Meta:
    """The metadata of a run and its files: the statistics by name, and the dtypes of the files with
    entries.

    `has_levels`: its pyramid, if there is one, has the form that this version reads.
    """

    info: RunInfo
    statistics: Mapping[str, Statistic]
    dtypes: Mapping[str, np.dtype[Any]]
    has_levels: bool = False


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
        "step_dtype": STEP_DTYPE.descr,
        "event_dtype": EVENT_DTYPE.descr,
        "rank_dtype": RANK_DTYPE.descr,
        "pair_dtype": PAIR_DTYPE.descr,
        "states": {str(int(state)): state.name for state in State},
        "event_kinds": {str(int(kind)): kind.name for kind in EventKind},
        "event_flags": {str(int(flag)): flag.name for flag in EventFlag if flag},
        "origins": {str(int(origin)): origin.name for origin in Origin},
        "step_flags": {str(int(flag)): flag.name for flag in StepFlag if flag},
        "rank_flags": {str(int(flag)): flag.name for flag in RankFlag if flag},
    }


def meta_from_json(data: Any) -> Meta:
    """Return the metadata of this or an earlier version."""
    return Meta(
        RunInfo(**_known(RunInfo, {"fact_kinds": [], **data["run"]}, "elements", "fact_kinds")),
        {each["name"]: _statistic_from_json(each) for each in data["statistics"]},
        {name: _dtype(data[key]) for name, key in _DTYPE_KEYS.items() if key in data},
        data.get("levels") == _levels_to_json(),
    )


def _statistic_to_json(statistic: Statistic) -> dict[str, object]:
    """Return what a reader of the numbers must know; what else there is to know of a statistic is
    that of its name.
    """
    flat = _flat(statistic)
    return {name: flat[name] for name in flat if name not in ("kind", "subject")}


def _statistic_from_json(data: Any) -> Statistic:
    known = _known(Statistic, data)
    own = next((each for each in STATISTICS if each.name == known["name"]), None)
    return Statistic(**known) if own is None else replace(own, **known)


def _levels_to_json() -> dict[str, object]:
    return {"factor": FACTOR, "statistics": list(PYRAMID_STATISTICS), "steps": list(STEP_SCALARS)}


def segment_to_json(segment: SegmentInfo) -> dict[str, object]:
    """Return the `parameters.json` of a segment."""
    return {
        "first_row": segment.first_row,
        "statistics": list(segment.statistics),
        "parameters": [_flat(parameter) for parameter in segment.parameters],
    }


def segment_from_json(data: Any) -> SegmentInfo:
    """Return the segment that `segment_to_json` wrote."""
    return SegmentInfo(
        int(data["first_row"]),
        tuple(data["statistics"]),
        tuple(_parameter(each) for each in data["parameters"]),
    )


def end_to_json(end: EndCounts) -> dict[str, object]:
    """Return the `end.json` of a run."""
    return {"rows": end.num_rows, "lines": dict(end.num_lines)}


def end_from_json(data: Any) -> EndCounts:
    """Return the counts that `end_to_json` wrote."""
    return EndCounts(
        int(data["rows"]), {str(name): int(num) for name, num in data["lines"].items()}
    )


def lines_to_json(values: Sequence[Site] | Sequence[Optimizer]) -> list[object]:
    """Return one object per site or optimizer."""
    return [_flat(value) for value in values]


def site_from_json(data: Any) -> Site:
    """Return the site in a line of `sites.jsonl`."""
    return Site(**_known(Site, data))


def optimizer_from_json(data: Any) -> Optimizer:
    """Return the optimizer in a line of `optimizers.jsonl`."""
    return Optimizer(**_known(Optimizer, data))


def note_to_json(note: Note) -> dict[str, object]:
    """Return a line of `notes.jsonl`."""
    return {**_flat(note), "message": message_to_json(note.message)}


def note_from_json(data: Any) -> Note:
    """Return the note that `note_to_json` wrote."""
    known = _known(Note, data)
    known["message"] = message_from_json(data["message"])
    return Note(**known)


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
    numbers = {str(name): number(value) for name, value in data["numbers"].items()}
    return Fact(**_known(Fact, {**data, "values": {**numbers, **data["words"]}}, "parameters"))


def _flat(
    value: RunInfo | Statistic | Parameter | Site | Optimizer | Note | Fact,
) -> dict[str, object]:
    """Return the fields by name, unchanged: `dataclasses.asdict` copies each number, which takes 20
    ms for a thousand parameters.
    """
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def _dtype(fields_of: Any) -> np.dtype[Any]:
    return np.dtype([(str(name), str(dtype)) for name, dtype in fields_of])


def _parameter(data: Any) -> Parameter:
    return Parameter(**_known(Parameter, data, "shape", "aliases"))


def _known(kind: type[Any], data: Any, *tuples: str) -> dict[str, Any]:
    """Return the fields that this version knows; a later one of the same schema may have added
    some. Those in `tuples` are lists in JSON.
    """
    known = {field.name: data[field.name] for field in fields(kind) if field.name in data}
    return known | {name: tuple(known[name]) for name in tuples}
