"""Combine the numbers of several processes to those of the whole gradients.

Shapes: R reporting processes, P columns of the whole, n of them that a process sent.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.capture.rows.applied_norm import clip_coefficient
from seismograd.distributed.ownership import Ownership
from seismograd.distributed.rank_report import RankColumns, RankReport
from seismograd.distributed.summands import SummedGradient, with_sums
from seismograd.schema import (
    STATISTICS,
    AnyArray,
    BoolArray,
    FloatArray,
    IntArray,
    Parameter,
    RowBatch,
    State,
    StatisticKind,
    StepFlag,
    no_samples,
)

EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_
ROWS = "dead_rows"


@dataclass(frozen=True, slots=True)
class RankShare:
    """What one process sends: its columns in the whole, and for which of them its numbers count
    # (n,) each.
    """

    columns: IntArray
    counts: BoolArray


@dataclass(frozen=True, slots=True)
class CombinePlan:
    """How the columns of several processes form those of the whole. `complete`: every scalar is
    held by a process that counts  # (P,).
    """

    parameters: tuple[Parameter, ...]
    shares: tuple[RankShare, ...]  # of each process  # (R,)
    complete: BoolArray
    is_total: BoolArray  # (P,) whether the norm of the whole includes it
    seen: BoolArray  # (P,) whether any process sends it
    held: BoolArray  # (P,) whether any process holds a part of it, sent or not
    whole_rows: BoolArray  # (P,)
    replica_of: tuple[int, ...]  # (R,)
    alike: tuple[bool, ...]  # (R,) whether it has any of rank 0's parameters
    sums: tuple[SummedGradient, ...]


def make_plan(
    ranks: tuple[int, ...],
    columns: tuple[RankColumns, ...],
    sent: tuple[IntArray, ...],
    ownership: Ownership | None = None,
) -> CombinePlan:
    """Plan what each process contributes. The first is rank 0: its columns come first, others'
    behind them.

    Of an ordinary tensor of one name, every different one that `ownership` knows of counts once.
    """
    ownership = Ownership() if ownership is None else ownership
    separate, local = ownership.separate, ownership.local
    position: dict[str, int] = {}
    parameters: list[Parameter] = []
    for theirs in columns:
        deepest = max((p.depth for p in parameters if p.depth is not None), default=-1)
        for parameter in theirs.parameters:
            if parameter.name not in position:
                position[parameter.name] = len(parameters)
                moved = (
                    None
                    if parameter.depth is None
                    else parameter.depth + (deepest + 1 if theirs is not columns[0] else 0)
                )
                parameters.append(
                    parameter if moved == parameter.depth else replace(parameter, depth=moved)
                )
            elif parameters[known := position[parameter.name]].numel == 0:
                # Rank 0 may have an empty part of what is flattened and cut.
                parameters[known] = replace(
                    parameters[known], shape=parameter.shape, numel=parameter.numel
                )
    held = np.zeros(len(parameters), np.int64)
    plain = np.zeros(len(parameters), bool)
    seen = np.zeros(len(parameters), bool)
    whole_rows = np.ones(len(parameters), bool)
    offsets: list[set[tuple[int, ...]]] = [set[tuple[int, ...]]() for _ in parameters]
    shares: list[RankShare] = []
    counted = [set[int]() for _ in parameters]  # lowest ranks of those that hold the same tensor
    stepping = _owners(ranks, columns, local)
    for rank, theirs, chosen in zip(ranks, columns, sent, strict=True):
        at = np.array([position[theirs.parameters[c].name] for c in chosen], np.int64)
        counts = np.zeros(len(chosen), bool)
        for i, (column, target) in enumerate(zip(chosen, at, strict=True)):
            shard = theirs.shards[int(column)]
            assert shard is not None
            if shard.kind == "plain":
                name = theirs.parameters[int(column)].name
                tensor = ownership.class_of(name, rank)
                counts[i] = tensor not in counted[target] and stepping.get(name, rank) == rank
                if counts[i]:
                    counted[target].add(tensor)
                plain[target] |= bool(counts[i])
            else:
                counts[i] = not plain[target] and (
                    shard.held == 0 or shard.offset not in offsets[target]
                )
                if shard.held:  # an empty shard begins where another one does
                    offsets[target].add(shard.offset)
                held[target] += shard.held if counts[i] else 0
                whole_rows[target] &= shard.whole_rows and shard.kind != "partial"
            seen[target] = True
        shares.append(RankShare(at, counts))
    for target, parameter in enumerate(parameters):
        name = parameter.name
        if name in separate:
            # Without one of them, the others would look like the whole.
            plain[target] &= counted[target] >= ownership.classes_of(name)
            shape, numel = ownership.whole(parameter)
            parameters[target] = replace(parameter, shape=shape, numel=numel)
            whole_rows[target] = False
    complete = plain | (seen & (held == np.array([p.numel for p in parameters], np.int64)))
    names = [{p.name for p in theirs.parameters} for theirs in columns]
    alike = tuple(not names[0].isdisjoint(theirs) or not names[0] for theirs in names)
    sums = _sums(columns, sent)
    known = {
        p.name
        for theirs in columns
        for p, shard in zip(theirs.parameters, theirs.shards, strict=True)
        if shard is not None
    }
    held_somewhere = np.array([p.name in known for p in parameters], bool)
    return CombinePlan(
        tuple(parameters),
        tuple(shares),
        complete,
        np.array([p.name not in ownership.copies for p in parameters], bool),
        seen,
        held_somewhere,
        whole_rows,
        _replicas(ranks, columns),
        alike,
        sums,
    )


def _owners(
    ranks: tuple[int, ...], columns: tuple[RankColumns, ...], local: Container[str]
) -> dict[str, int]:
    """Return for each parameter whose gradients are not reduced to every process the one whose
    optimizer steps on it, -1 where that is not exactly one.
    """
    steps: dict[str, list[int]] = {}
    for rank, theirs in zip(ranks, columns, strict=True):
        for parameter in theirs.parameters:
            if parameter.name in local:
                steps.setdefault(parameter.name, []).extend(
                    [rank] if parameter.optimizer is not None else []
                )
    return {name: owners[0] if len(owners) == 1 else -1 for name, owners in steps.items()}


def _sums(
    columns: tuple[RankColumns, ...], sent: tuple[IntArray, ...]
) -> tuple[SummedGradient, ...]:
    found: dict[tuple[str, tuple[int, ...]], SummedGradient] = {}
    for process, (theirs, chosen) in enumerate(zip(columns, sent, strict=True)):
        for number, (position, _) in enumerate(theirs.summed(chosen)):
            column = int(chosen[position])
            shard = theirs.shards[column]
            assert shard is not None
            key = (theirs.parameters[column].name, shard.offset)
            first = found.get(key, SummedGradient(position, (), shard.num_summands))
            found[key] = replace(first, members=(*first.members, (process, number)))
    return tuple(found.values())


def _replicas(ranks: tuple[int, ...], columns: tuple[RankColumns, ...]) -> tuple[int, ...]:
    first: dict[object, int] = {}
    found: list[int] = []
    for rank, theirs in zip(ranks, columns, strict=True):
        names = tuple(p.name for p in theirs.parameters)
        parts = tuple(None if p is None else (p.kind, p.held, p.offset) for p in theirs.shards)
        found.append(first.setdefault((names, parts), rank))
    return tuple(found)


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
    )


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
