"""Combine the numbers of several processes to those of the whole gradients.

Shapes: R reporting processes, P columns of the whole, n of them that a process sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.capture.rows.applied_norm import clip_coefficient
from seismograd.distributed.combine_plan import CombinePlan
from seismograd.distributed.rank_report import RankReport
from seismograd.distributed.summands import with_sums
from seismograd.schema import (
    STATISTICS,
    AnyArray,
    BoolArray,
    FloatArray,
    RowBatch,
    State,
    StateArray,
    StatisticKind,
    StepFlag,
    no_samples,
)
from seismograd.tensors.isolation import in_own_context

EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_
ROWS = "dead_rows"


def combine(
    plan: CombinePlan, reports: tuple[RankReport, ...], own: RowBatch, ranks: AnyArray
) -> RowBatch:
    """Return the row of the whole; `own` is rank 0's, whose events, times and flags stand."""
    num = len(plan.parameters)
    reports = with_sums(plan.sums, reports)
    states = _spread(plan, [r.state for r in reports], num, State.NOT_MEASURED)  # (R, P)
    counts = _spread(plan, [s.counts for s in plan.shares], num, 0).astype(bool)
    state = _state(states, counts, plan)
    # An expert that no token has reached adds nothing.
    counts &= states != State.ABSENT
    n_own = len(own.parameters)
    state[:n_own] = np.where(plan.held[:n_own], state[:n_own], own.state)
    values: dict[str, AnyArray] = {}
    samples: dict[str, AnyArray] = {}
    for statistic in STATISTICS:
        if statistic.sampled and not all(r.samples for r in reports):
            continue
        given = [(r.samples if statistic.sampled else r.values)[statistic.name] for r in reports]
        joined = _join(statistic.kind, given, plan, counts, num)
        if statistic.name == ROWS:
            joined[~plan.whole_rows] = np.nan
        if statistic.kind is StatisticKind.FLAG:
            joined = np.nan_to_num(joined)
        else:
            joined[state <= State.ABSENT] = np.nan
        (samples if statistic.sampled else values)[statistic.name] = joined
    step = _step(own.steps[0], reports, plan, state, values)
    elements = own.elements[0].copy()
    for report in reports[1:]:
        missing = np.isnan(elements)
        elements[missing] = report.elements[missing]
    return replace(
        own,
        parameters=plan.parameters,
        steps=step.reshape(1),
        state=state[None],
        values={name: joined[None] for name, joined in values.items()},
        sample_rows=np.zeros(1 if samples else 0, np.int64),
        samples={name: joined[None] for name, joined in samples.items()}
        if samples
        else no_samples(num),
        elements=elements[None],
        ranks=ranks,
        sketches=_sketches(plan, reports, counts, state),
    )


def _sketches(
    plan: CombinePlan, reports: tuple[RankReport, ...], counts: BoolArray, state: StateArray
) -> dict[int, FloatArray]:
    """Return the sketches of the whole gradients: the sums of those of their parts, of every
    summand, too. Tensors that only share a name have no positions in a whole.
    """
    given = [r.sketches for r in reports if r.sketches is not None]
    if len(given) < len(reports):
        return {}
    with_sum = [each.copy() for each in given]
    for summed in plan.sums:
        first, at = summed.members[0][0], summed.positions[0]
        parts = [
            given[process][position]
            for (process, _), position in zip(summed.members, summed.positions, strict=True)
        ]
        with_sum[first][at] = np.sum(parts, 0)
    sketches = _join(StatisticKind.SUM, with_sum, plan, counts, len(state))
    sketches[(state <= State.ABSENT) | plan.separate] = np.nan
    return {0: sketches}


def _spread(
    plan: CombinePlan, given: list[npt.NDArray[Any]], num: int, blank: float
) -> npt.NDArray[Any]:
    """Return what each process sent, at the columns of the whole  # (R, P, ...)."""
    spread = np.full(
        (len(given), num, *given[0].shape[1:]),
        blank,
        given[0].dtype if given[0].dtype.kind == "f" else np.int64,
    )
    for row, share, values in zip(spread, plan.shares, given, strict=True):
        row[share.columns] = values
    return spread


def _state(states: npt.NDArray[Any], counts: BoolArray, plan: CombinePlan) -> npt.NDArray[np.uint8]:
    def every(state: State) -> BoolArray:
        return ((states == state) | ~counts).all(0)

    there = (states >= State.ZERO) & counts
    measured = plan.complete & (there | (states == State.ABSENT) | ~counts).all(0) & there.any(0)
    result = np.full(counts.shape[1], State.NOT_MEASURED, np.uint8)
    result[measured] = State.FINITE
    result[measured & ((states <= State.ZERO) | ~counts).all(0)] = State.ZERO
    result[measured & ((states == State.NONFINITE) & counts).any(0)] = State.NONFINITE
    result[counts.any(0) & every(State.ABSENT)] = State.ABSENT
    return result


@in_own_context
def _join(
    kind: StatisticKind, given: list[FloatArray], plan: CombinePlan, counts: BoolArray, num: int
) -> FloatArray:
    """Combine one statistic over the processes that count  # (P,) or (P, W)."""
    values = _spread(plan, given, num, 0.0)
    if kind is StatisticKind.MEAN:  # of what each process probed of it
        there = counts & ~np.isnan(values)
        return np.where(
            there.any(0), np.where(there, values, 0).sum(0) / np.maximum(there.sum(0), 1), np.nan
        )
    values[~counts] = 0
    if kind is StatisticKind.NORM:
        return norms(values)
    with np.errstate(invalid="ignore", over="ignore"):
        if kind in (StatisticKind.LARGEST, StatisticKind.FLAG):
            return values.max(0)
        return values.sum(0)


@in_own_context
def norms(parts: FloatArray, order: float = 2.0) -> FloatArray:
    """Return the norm of the whole from those of its parts, scaled so that no square overflows; NaN
    and infinity stay  # (R, P) -> (P,).
    """
    largest: FloatArray = parts.max(0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if math.isinf(order):
            return largest
        scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
        return ((parts / scale) ** order).sum(0) ** (1 / order) * scale


def _total(values: FloatArray, which: BoolArray) -> float:
    chosen = values[which]
    return (
        float(norms(chosen[:, None])[0]) if len(chosen) and np.isfinite(chosen).all() else math.nan
    )


def _step(
    own: AnyArray,
    reports: tuple[RankReport, ...],
    plan: CombinePlan,
    state: npt.NDArray[np.uint8],
    values: Mapping[str, AnyArray],
) -> AnyArray:
    step = own.copy()
    step["loss"] = _loss(reports, plan)
    step["grad_norm"] = _total(values["grad_norm"], (state >= State.ZERO) & plan.is_total)
    order = reports[0].clip_order
    if not math.isnan(order):
        parts = [
            r.step["clip_norm"]
            for r, t in zip(reports, plan.replica_of, strict=True)
            if int(r.rank["rank"]) == t
        ]
        step["clip_norm"] = norms(np.array(parts, np.float64)[:, None], order)[0]
        step["clip_coefficient"] = clip_coefficient(
            float(step["clip_norm"]), float(step["clip_limit"])
        )
        if not int(step["flags"]) & (StepFlag.CHANGED | StepFlag.SKIPPED):
            values["applied_norm"][:] = values["grad_norm"] * step["clip_coefficient"]
    applied = values["applied_norm"]
    step["applied_norm"] = _total(
        applied, (~np.isnan(applied) | (state == State.NONFINITE)) & plan.is_total
    )
    return step


def _loss(reports: tuple[RankReport, ...], plan: CombinePlan) -> float:
    """Return the mean over the processes: the loss whose gradient is the averaged one.

    A process that has other parameters and no loss, a stage of a pipeline, does not count.
    """
    losses = np.array([r.step["loss"] for r in reports], np.float64)
    alike = np.array(plan.alike)
    others = losses[~alike & np.isfinite(losses)]
    return float(
        np.mean(others if len(others) and np.isnan(losses[alike]).all() else losses[alike])
    )
