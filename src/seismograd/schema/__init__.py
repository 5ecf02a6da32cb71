"""The shared values: what is measured, what happened, what was found."""

from __future__ import annotations

from seismograd.schema.arrays import AnyArray, BoolArray, FloatArray, IntArray, StateArray
from seismograd.schema.entries import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STEP_DTYPE,
    EventFlag,
    EventKind,
    Origin,
    RankFlag,
    StepFlag,
    no_pairs,
    no_ranks,
)
from seismograd.schema.facts import Fact, FactKind, ZeroCause
from seismograd.schema.findings import SEVERITIES, Conclusion, Evidence, Finding, RuleStatus
from seismograd.schema.rows import Optimizer, Parameter, Row, RowBatch, Rows, Site
from seismograd.schema.run_info import Note, RunInfo, RunState, Sink
from seismograd.schema.statistics import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    SAMPLE_EVERY,
    SCHEMA_VERSION,
    STATISTICS,
    State,
    Statistic,
)

__all__ = [
    "EVENT_DTYPE",
    "HISTOGRAM_BINS",
    "HISTOGRAM_EXPONENTS_PER_BIN",
    "HISTOGRAM_FIRST_EXPONENT",
    "PAIR_DTYPE",
    "RANK_DTYPE",
    "SAMPLE_EVERY",
    "SCHEMA_VERSION",
    "SEVERITIES",
    "STATISTICS",
    "STEP_DTYPE",
    "AnyArray",
    "BoolArray",
    "Conclusion",
    "EventFlag",
    "EventKind",
    "Evidence",
    "Fact",
    "FactKind",
    "Finding",
    "FloatArray",
    "IntArray",
    "Note",
    "Optimizer",
    "Origin",
    "Parameter",
    "RankFlag",
    "Row",
    "RowBatch",
    "Rows",
    "RuleStatus",
    "RunInfo",
    "RunState",
    "Sink",
    "Site",
    "State",
    "StateArray",
    "Statistic",
    "StepFlag",
    "ZeroCause",
    "no_pairs",
    "no_ranks",
]
