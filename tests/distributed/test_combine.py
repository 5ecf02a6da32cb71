"""Numbers of parts, put together, are those of the whole; a part that is missing makes no wrong
number.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.capture.loop.iteration import states
from seismograd.distributed.combine import combine, norms
from seismograd.distributed.combine_plan import make_plan
from seismograd.distributed.rank_report import RankColumns, RankReport
from seismograd.distributed.report_frames import FrameDecoder, FrameKind, frame
from seismograd.schema import (
    EVENT_DTYPE,
    RANK_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    FloatArray,
    Parameter,
    RowBatch,
    State,
    no_samples,
)
from seismograd.tensors.shards import PLAIN, LocalShard
from tests.single_rows import SingleRow, single_rows

SHAPE = (4, 6)
NUMBERS = st.one_of(
    st.just(0.0),
    st.floats(-1e3, 1e3),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e-300, 1e200]),
)
WHOLE = st.lists(NUMBERS, min_size=24, max_size=24).map(
    lambda numbers: np.array(numbers).reshape(SHAPE)
)


def measured(part: FloatArray) -> dict[str, FloatArray]:
    """The statistics of one gradient  # (1,) each."""
    with np.errstate(all="ignore"):
        largest = np.abs(part).max(initial=0.0)
        found = {
            "grad_norm": norms(np.abs(part.reshape(-1, 1)))[0] if part.size else 0.0,
            "grad_max": largest,
            "grad_sum": part.sum(),
            "zeros": np.count_nonzero(part == 0),
            "nonfinite": np.count_nonzero(~np.isfinite(part)),
            "carried": 0.0,
            "update_ratio": 0.5,
            "unmoved": 0.25,
        }
        found["applied_norm"] = found["grad_norm"]
    return {name: np.array([float(value)]) for name, value in found.items()}


def row_of(part: FloatArray) -> RowBatch:
    values = measured(part)
    state = states(values, [True], np.array([part.size]))
    parameters = (Parameter("w", SHAPE, "float64", 24),)
    step = np.zeros(1, STEP_DTYPE)
    step["clip_norm"] = step["clip_limit"] = math.nan
    return RowBatch(
        parameters,
        step,
        state[None],
        {name: value[None] for name, value in values.items()},
        np.empty(0, np.int64),
        no_samples(1),
        np.empty(0, EVENT_DTYPE),
        np.empty((1, 0)),
        (),
        (),
    )


def told(
    rank: int, part: FloatArray, shard: LocalShard, summand: bool = False
) -> tuple[RankColumns, RankReport]:
    row = row_of(part)
    entry = np.zeros((), RANK_DTYPE)
    entry["rank"] = rank
    columns = RankColumns(0, row.parameters, (shard,))
    sent = columns.sent()
    report = RankReport(
        0,
        0,
        0,
        row.steps[0],
        entry,
        row.state[0, sent],
        {n: v[0, sent] for n, v in row.values.items()},
        {},
        row.elements[0],
        math.nan,
        (part.reshape(-1),) if summand else (),
    )
    return columns, RankReport.from_bytes(report.to_bytes(), columns, sent)


def together(whole_row: RowBatch, said: list[tuple[RankColumns, RankReport]]) -> SingleRow:
    columns = tuple(c for c, _ in said)
    plan = make_plan(
        tuple(int(r.rank["rank"]) for _, r in said), columns, tuple(c.sent() for c in columns)
    )
    reports = tuple(r for _, r in said)
    return next(single_rows(combine(plan, reports, whole_row, np.empty(0, RANK_DTYPE))))


def assert_same(row: SingleRow, whole: FloatArray) -> None:
    expected = next(single_rows(row_of(whole)))
    assert row.state.tolist() == expected.state.tolist()
    for statistic in STATISTICS:
        if not statistic.sampled:
            np.testing.assert_allclose(
                row.values[statistic.name],
                expected.values[statistic.name],
                1e-9,
                1e-9,
                err_msg=statistic.name,
            )


@given(WHOLE, st.integers(0, 4), st.sampled_from([0, 1]))
def test_shards_are_the_whole(whole: FloatArray, cut: int, dim: int) -> None:
    parts = np.split(whole, [cut], dim)
    offsets = [(0, 0), (cut, 0) if dim == 0 else (0, cut)]
    said = [
        told(rank, part, LocalShard("shard", True, part.size, offsets[rank]))
        for rank, part in enumerate(parts)
    ]
    assert_same(together(row_of(parts[0]), said), whole)


@given(WHOLE)
def test_what_several_hold_counts_once(whole: FloatArray) -> None:
    top, bottom = np.split(whole, [2])
    shards = [
        LocalShard("shard", owner, 12, (start, 0)) for owner in (True, False) for start in (0, 2)
    ]
    said = [
        told(rank, part, shard)
        for rank, (part, shard) in enumerate(zip((top, bottom, top, bottom), shards, strict=True))
    ]
    assert_same(together(row_of(top), said), whole)
    plain = [told(rank, whole, PLAIN) for rank in range(3)]
    assert_same(together(row_of(whole), plain), whole)


@given(WHOLE, st.lists(st.floats(-1, 1), min_size=24, max_size=24))
def test_summands_are_their_sum(whole: FloatArray, other: list[float]) -> None:
    one = np.array(other).reshape(SHAPE)
    with np.errstate(invalid="ignore"):
        parts = [one, whole - one]
        said = [
            told(rank, part, LocalShard("partial", True, 24, (0, 0), num_summands=2), summand=True)
            for rank, part in enumerate(parts)
        ]
        row = together(row_of(one), said)
        expected = next(single_rows(row_of(parts[0] + parts[1])))
    assert row.state.tolist() == expected.state.tolist()
    for name in ("grad_norm", "grad_max", "grad_sum", "zeros", "nonfinite"):
        np.testing.assert_allclose(row.values[name], expected.values[name], 1e-9)


@pytest.mark.parametrize(
    "shard",
    [
        LocalShard("shard", True, 12, (0, 0)),
        LocalShard("partial", True, 24, (0, 0), num_summands=2),
    ],
)
def test_without_a_part_nothing_was_measured(shard: LocalShard) -> None:
    part = np.ones((2, 6) if shard.kind == "shard" else SHAPE)
    row = together(row_of(part), [told(0, part, shard, shard.kind == "partial")])
    assert row.state.tolist() == [State.NOT_MEASURED]
    assert np.isnan(row.values["grad_norm"]).all()


def test_a_part_that_only_a_missing_process_tells_of_is_not_measured() -> None:
    part = np.ones((2, 6))
    row = together(row_of(part), [told(0, part, LocalShard("shard", False, 12, (0, 0)))])
    assert row.state.tolist() == [State.NOT_MEASURED]


def test_parameters_that_only_another_process_has_come_behind() -> None:
    columns, report = told(1, np.ones(SHAPE), PLAIN)
    theirs = replace(columns, parameters=(replace(columns.parameters[0], name="v", depth=0),))
    own = told(0, np.zeros(SHAPE), PLAIN)
    mine = (replace(own[0], parameters=(replace(own[0].parameters[0], depth=3),)), own[1])
    row = together(
        replace(row_of(np.zeros(SHAPE)), parameters=mine[0].parameters), [mine, (theirs, report)]
    )
    assert [(p.name, p.depth) for p in row.parameters] == [("w", 3), ("v", 4)]
    assert row.state.tolist() == [State.ZERO, State.FINITE]


@given(
    st.lists(st.tuples(st.sampled_from(list(FrameKind)), st.binary(max_size=50)), max_size=8),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_messages_come_whole_however_the_stream_is_cut(
    messages: list[tuple[FrameKind, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in messages)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames = FrameDecoder()
    heard = [
        message
        for start, stop in itertools.pairwise(bounds)
        for message in frames.feed(stream[start:stop])
    ]
    assert heard == messages


def test_columns_come_over_as_they_are() -> None:
    parameter = Parameter("w", SHAPE, "float32", 24, "Linear", ("alias",), 3, True, 0, 1)
    columns = RankColumns(
        5, (parameter, parameter), (None, LocalShard("shard", False, 12, (2, 0), False, 1))
    )
    assert RankColumns.from_json(columns.to_json()) == columns
