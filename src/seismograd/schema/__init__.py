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
    event_entry,
    no_pairs,
    no_ranks,
    step_entry,
)
from seismograd.schema.facts import BirthReason, Fact, FactKind, ZeroCause
from seismograd.schema.findings import SEVERITIES, Conclusion, Evidence, Finding, RuleStatus
from seismograd.schema.parameters import Optimizer, Parameter, Site
from seismograd.schema.recorded_dtype import recorded
from seismograd.schema.row_batch import RowBatch, concatenate, no_samples, row_ends
from seismograd.schema.run_info import ENDINGS, Note, RunInfo, RunState, Sink
from seismograd.schema.sketches import SKETCH_WIDTH
from seismograd.schema.statistics import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    MEASURED_EVERY_TIME,
    SAMPLE_EVERY,
    SCHEMA_VERSION,
    STATISTICS,
    State,
    Statistic,
    StatisticKind,
)

__all__ = [
    "ENDINGS",
    "EVENT_DTYPE",
    "HISTOGRAM_BINS",
    "HISTOGRAM_EXPONENTS_PER_BIN",
    "HISTOGRAM_FIRST_EXPONENT",
    "MEASURED_EVERY_TIME",
    "PAIR_DTYPE",
    "RANK_DTYPE",
    "SAMPLE_EVERY",
    "SCHEMA_VERSION",
    "SEVERITIES",
    "SKETCH_WIDTH",
    "STATISTICS",
    "STEP_DTYPE",
    "AnyArray",
    "BirthReason",
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
    "RowBatch",
    "RuleStatus",
    "RunInfo",
    "RunState",
    "Sink",
    "Site",
    "State",
    "StateArray",
    "Statistic",
    "StatisticKind",
    "StepFlag",
    "ZeroCause",
    "concatenate",
    "event_entry",
    "no_pairs",
    "no_ranks",
    "no_samples",
    "recorded",
    "row_ends",
    "step_entry",
]
