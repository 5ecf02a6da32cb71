"""Find why gradients are exactly zero: the operations of a graph that block them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import torch

from seismograd.capture.graph.gradient_stops import MAX_SCALARS, GradientStop, last_size, stops_at
from seismograd.capture.graph.traversal import LEAF
from seismograd.schema import ZeroCause

MAX_NODES = 20_000  # visited per loss


@dataclass(frozen=True, slots=True)
class Blocked:
    """Leaves that no gradient reaches, the reason, and the blocking operation nearest to the loss;
    `weight` is the all-zero weight, if that is the reason.
    """

    cause: ZeroCause
    operation: str
    leaves: tuple[torch.Tensor, ...]
    weight: torch.Tensor | None = None
    last_size: int = 0  # of a softmax over another dimension than the last


def blocked_by(tops: list[Any]) -> Blocked | None:
    """Return what blocks gradients from leaves of this graph; `None` when every leaf has a path to
    the loss, as far as the graph shows.
    """
    every = leaves_reached(tops, lambda _node: {})
    budget = [MAX_SCALARS]
    stops: list[GradientStop] = []

    def stop(node: Any) -> dict[int, GradientStop]:
        found = dict(stops_at(node, budget))
        stops.extend(found.values())
        return found

    reached = leaves_reached(tops, stop)
    left = tuple(leaf for key, leaf in every.items() if key not in reached)
    if not left or not stops:
        return None
    first = min(stops, key=_is_a_consequence)  # of equal ones the nearest to the loss
    size = last_size(first.node) if first.cause == ZeroCause.SOFTMAX_OF_ONE else 0
    return Blocked(first.cause, first.operation, left, first.weight, size)


def _is_a_consequence(stop: GradientStop) -> int:
    """Rank a stop: what is zero has been made so by something, and a term that is multiplied by
    zero may be switched off on purpose, beside another one with a fault.
    """
    if stop.cause == ZeroCause.ZERO_INPUT:
        return 2
    return 1 if stop.cause == ZeroCause.ZERO_FACTOR and stop.operation == "×" else 0


def leaves_reached(
    tops: list[Any], stops_at: Callable[[Any], Container[int]]
) -> dict[int, torch.Tensor]:
    """Return the leaves reached from these nodes, nearest first, by their ids, without the edges
    that block gradients: `stops_at` says which inputs of a node these are.
    """
    queue = deque(top for top in tops if top is not None)
    seen: set[Any] = set(queue)
    leaves: dict[int, torch.Tensor] = {}
    while queue and len(seen) < MAX_NODES:
        node = queue.popleft()
        if node._sequence_nr() == LEAF:
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                leaves[id(leaf)] = leaf
            continue
        stopped = stops_at(node)
        for position, (below, _) in enumerate(node.next_functions):
            if below is not None and below not in seen and position not in stopped:
                seen.add(below)
                queue.append(below)
    return leaves
