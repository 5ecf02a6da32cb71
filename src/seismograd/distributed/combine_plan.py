"""Plan how the columns of several processes form those of the whole: what each process contributes.

Shapes: R reporting processes, P columns of the whole, n of them that a process sent.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np

from seismograd.distributed.ownership import Ownership
from seismograd.distributed.rank_report import RankColumns
from seismograd.distributed.summands import SummedGradient
from seismograd.schema import BoolArray, IntArray, Parameter


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
    separate: BoolArray  # (P,) whether there are several tensors of this name, whose order is ours


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
    parameters, position = _merge_parameters(columns)
    parameters, shares, complete, seen, whole_rows = _shares(
        parameters, position, ranks, columns, sent, ownership
    )
    names = [{p.name for p in theirs.parameters} for theirs in columns]
    alike = tuple(not names[0].isdisjoint(theirs) or not names[0] for theirs in names)
    known = {
        p.name
        for theirs in columns
        for p, shard in zip(theirs.parameters, theirs.shards, strict=True)
        if shard is not None
    }
    return CombinePlan(
        tuple(parameters),
        shares,
        complete,
        np.array([p.name not in ownership.copies for p in parameters], bool),
        seen,
        np.array([p.name in known for p in parameters], bool),
        whole_rows,
        _replicas(ranks, columns),
        alike,
        _sums(columns, sent),
        np.array([p.name in ownership.separate for p in parameters], bool),
    )


def _merge_parameters(columns: tuple[RankColumns, ...]) -> tuple[list[Parameter], dict[str, int]]:
    """Return the parameters of all processes, and the position of each name among them. What only
    another process has lies deeper than all before it.
    """
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
    return parameters, position


def _shares(
    parameters: list[Parameter],
    position: dict[str, int],
    ranks: tuple[int, ...],
    columns: tuple[RankColumns, ...],
    sent: tuple[IntArray, ...],
    ownership: Ownership,
) -> tuple[list[Parameter], tuple[RankShare, ...], BoolArray, BoolArray, BoolArray]:
    """Return the parameters, with the shapes that all their different tensors have together; what
    each process contributes, each scalar once; and for each parameter whether that makes it
    complete, whether any process sends it, and whether its shards are whole rows.
    """
    held = np.zeros(len(parameters), np.int64)
    plain = np.zeros(len(parameters), bool)
    seen = np.zeros(len(parameters), bool)
    whole_rows = np.ones(len(parameters), bool)
    # the shards that count, each with the lowest rank of those that hold the same
    taken = [set[tuple[tuple[int, ...], int]]() for _ in parameters]
    shares: list[RankShare] = []
    counted = [set[int]() for _ in parameters]  # lowest ranks of those that hold the same tensor
    stepping = _owners(ranks, columns, ownership.local)
    for rank, theirs, chosen in zip(ranks, columns, sent, strict=True):
        at = np.array([position[theirs.parameters[c].name] for c in chosen], np.int64)
        counts = np.zeros(len(chosen), bool)
        for i, (column, target) in enumerate(zip(chosen, at, strict=True)):
            shard = theirs.shards[int(column)]
            assert shard is not None
            if shard.kind == "plain":
                name = theirs.parameters[int(column)].name
                tensor = ownership.class_of(name, rank)
                # An empty part of what is cut is no replica of the others: of them it says nothing.
                is_void = (
                    theirs.parameters[int(column)].numel == 0 < parameters[target].numel
                    and name not in ownership.separate
                )
                counts[i] = (
                    not is_void
                    and tensor not in counted[target]
                    and stepping.get(name, rank) == rank
                )
                if counts[i]:
                    counted[target].add(tensor)
                plain[target] |= bool(counts[i])
            else:
                name = theirs.parameters[int(column)].name
                key = shard.offset, ownership.class_of(name, rank, shard.offset)
                counts[i] = not plain[target] and (shard.held == 0 or key not in taken[target])
                if shard.held:  # an empty shard begins where another one does
                    taken[target].add(key)
                held[target] += shard.held if counts[i] else 0
                whole_rows[target] &= shard.whole_rows and shard.kind != "partial"
            seen[target] = True
        shares.append(RankShare(at, counts))
    together = list(parameters)
    for target, parameter in enumerate(parameters):
        if parameter.name in ownership.separate:
            # Without one of them, the others would look like the whole.
            plain[target] &= counted[target] >= ownership.classes_of(parameter.name)
            shape, numel = ownership.whole(parameter)
            together[target] = replace(parameter, shape=shape, numel=numel)
            whole_rows[target] = False
    complete = plain | (seen & (held == np.array([p.numel for p in together], np.int64)))
    return together, tuple(shares), complete, seen, whole_rows


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
            found[key] = replace(
                first,
                members=(*first.members, (process, number)),
                positions=(*first.positions, position),
            )
    return tuple(found.values())


def _replicas(ranks: tuple[int, ...], columns: tuple[RankColumns, ...]) -> tuple[int, ...]:
    first: dict[object, int] = {}
    found: list[int] = []
    for rank, theirs in zip(ranks, columns, strict=True):
        names = tuple(p.name for p in theirs.parameters)
        parts = tuple(None if p is None else (p.kind, p.held, p.offset) for p in theirs.shards)
        found.append(first.setdefault((names, parts), rank))
    return tuple(found)
