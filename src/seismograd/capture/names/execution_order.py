"""The order in which a model executes its parameters, as the graphs of its losses show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seismograd.capture.graph.traversal import GraphLeaf
from seismograd.capture.names.column_entry import ColumnEntry


def learn_order(
    entries: Sequence[ColumnEntry],
    columns: Mapping[int, int],
    leaves: Sequence[GraphLeaf],
    walk: int,
) -> bool:
    """Learn from leaves that are in the order of execution, those of the graph walk with this
    number; return whether it gave any column a depth.

    `columns`: the column of each tensor, by its id. A previously frozen parameter takes its place
    among the others.
    """
    order_of = {id(leaf.tensor): i for i, leaf in enumerate(leaves)}
    reached = sorted(
        (order_of[id(t)], c)
        for c, e in enumerate(entries)
        if (t := e.tensor()) is not None and id(t) in order_of
    )
    for position, column in reached:
        entries[column].walks |= 1 << walk
        if leaves[position].beside:
            entries[column].beside |= frozenset(
                columns[each] for each in leaves[position].beside if each in columns
            )
    num_fresh = sum(entries[column].depth is None for _, column in reached)
    if not num_fresh:
        return False
    for position, column in reached:
        entries[column].activation = leaves[position].activation
        entries[column].compute_dtype = leaves[position].compute_dtype
    _assign_depths(entries, [column for _, column in reached], num_fresh)
    _assign_branches(entries)
    return True


def _assign_depths(entries: Sequence[ColumnEntry], reached: list[int], num_fresh: int) -> None:
    """Distribute the depths of the reached columns, and as many new ones as are needed, in the
    order of execution; the other columns keep theirs.
    """
    num_taken = sum(entry.depth is not None for entry in entries)
    own = [depth for column in reached if (depth := entries[column].depth) is not None]
    slots = sorted([*own, *range(num_taken, num_taken + num_fresh)])
    for slot, column in zip(slots, reached, strict=True):
        entries[column].depth = slot


def _assign_branches(entries: Sequence[ColumnEntry]) -> None:
    """Assign each weight to the first branch in which nothing lies on a parallel path, as the
    graphs show or where none has shown both.
    """
    placed = [
        (e.depth, c)
        for c, e in enumerate(entries)
        if e.depth is not None and (t := e.tensor()) is not None and t.ndim > 1
    ]
    members: list[set[int]] = []
    walks: list[set[int]] = []  # of the members of each
    for _, column in sorted(placed):
        entry = entries[column]
        fitting = (
            branch
            for branch in range(len(members))
            if entry.beside.isdisjoint(members[branch])
            and all(entry.walks & each for each in walks[branch])
        )
        entry.branch = next(fitting, len(members))
        if entry.branch == len(members):
            members.append(set())
            walks.append(set())
        members[entry.branch].add(column)
        walks[entry.branch].add(entry.walks)
