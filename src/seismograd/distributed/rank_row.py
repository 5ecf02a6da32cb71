"""One iteration of this process on its way to rank 0."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from seismograd.distributed.rank_report import DigestArray, RankColumns, RankReport
from seismograd.schema import (
    SKETCH_WIDTH,
    STATISTICS,
    AnyArray,
    FloatArray,
    IntArray,
    RowBatch,
    State,
    StepFlag,
)
from seismograd.tensors.isolation import in_own_context


@dataclass(frozen=True, slots=True)
class RankRow:
    """A row, its index among those since the processes joined, its columns, and what else is known
    of this process.
    """

    index: int
    row: RowBatch  # of one row
    columns: RankColumns
    rank: AnyArray  # 0-d, RANK_DTYPE
    clip_order: float
    time_s: float  # arrival, time.monotonic()
    # by column: the norm of each copy, and the copy
    summands: Mapping[int, Sequence[tuple[float, torch.Tensor]]]
    digests: tuple[DigestArray, ...] = ()

    def report(self, sent: IntArray, leave: int) -> RankReport:
        """Return the report for other processes: the columns in `sent`  # (n,)."""
        row = self.row
        return RankReport(
            index=self.index,
            version=self.columns.version,
            leave=leave,
            step=row.steps[0],
            rank=self.rank,
            state=row.state[0, sent],
            values={
                s.name: _chosen(row.values.get(s.name), sent) for s in STATISTICS if not s.sampled
            },
            samples={
                s.name: _chosen(row.samples.get(s.name), sent, s.width)
                for s in STATISTICS
                if s.sampled
            }
            if len(row.sample_rows)
            else {},
            elements=row.elements[0],
            clip_order=self.clip_order,
            summands=tuple(
                self._summand(int(sent[position])) for position, _ in self.columns.summed(sent)
            ),
            digests=self.digests,
            sketches=None if (sketches := row.sketches.get(0)) is None else sketches[sent],
        )

    def _summand(self, column: int) -> FloatArray | None:
        """Return the scalars of a summand: of several readings of the iteration the one with the
        row's norm, unscaled.
        """
        recorded = float(self.row.values["grad_norm"][0, column])
        for norm, copy in reversed(self.summands.get(column, ())):
            for scale in (1.0, float(self.row.steps["scale"][0])):
                if norm / scale == recorded or (math.isnan(norm) and math.isnan(recorded)):
                    real = torch.view_as_real(copy) if copy.is_complex() else copy
                    numbers: FloatArray = real.reshape(-1).double().cpu().numpy()
                    return numbers / scale
        return None

    def without_shards(self, separate: Container[str] = ()) -> RowBatch:
        """Return the row with what this process holds whole; the rest counts as not measured, and
        so do `separate` parameters, of which other processes hold other tensors.
        """
        state = self.row.state.copy()
        for column, shard in enumerate(self.columns.shards):
            if shard is not None and (
                shard.kind != "plain" or self.columns.parameters[column].name in separate
            ):
                state[:, column] = State.NOT_MEASURED
        sketches = {
            row: np.where(state[row, :, None] == State.NOT_MEASURED, np.nan, each)
            for row, each in self.row.sketches.items()
        }
        return replace(self.row, state=state, sketches=sketches)

    def num_bytes(self) -> int:
        """Return the memory that it takes, roughly."""
        width = 8 + 66 * len(self.row.sample_rows) + SKETCH_WIDTH * len(self.row.sketches)
        return 8 * self.row.state.size * width + 4096


@in_own_context
def uniform_factor(row: RowBatch) -> float:
    """Return what the script has multiplied all gradients by, by hand, between reading and step;
    NaN where that is not known, or not the same number for all.
    """
    if not int(row.steps["flags"][0]) & StepFlag.CHANGED:
        return math.nan
    ready, applied = (np.asarray(row.values[n][0], float) for n in ("grad_norm", "applied_norm"))
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = (applied / ready)[(row.state[0] >= State.FINITE) & (ready > 0)]
    is_uniform = len(factors) > 0 and float(np.ptp(factors)) <= 1e-3 * float(factors.max())
    return float(factors.max()) if is_uniform else math.nan


def _chosen(values: AnyArray | None, sent: IntArray, width: int = 1) -> FloatArray:
    if values is None:
        return np.full(len(sent) if width == 1 else (len(sent), width), math.nan)
    return np.asarray(values[0], np.float64)[sent]
