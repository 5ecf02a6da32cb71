"""The order in which the parameters were used in the forward pass, read from the autograd graph of a loss."""

from __future__ import annotations

from typing import Any

MAX_NODES = 200_000
LEAF = (1 << 64) - 1  # the sequence number of AccumulateGrad


def execution_order(roots: list[Any]) -> dict[int, tuple[int, int]]:
    """The id of every leaf tensor that the graph reaches, to a key that sorts by time of first use in the forward pass.

    Autograd numbers its nodes in the order in which the forward pass makes them (`Node._sequence_nr`), so the smallest number among the
    nodes that read a leaf is when it was first used; inputs of the same node keep their order. Empty for a graph of more than
    `MAX_NODES` nodes.
    """
    order: dict[int, tuple[int, int]] = {}
    stack: list[Any] = [root for root in roots if root is not None]
    seen: set[Any] = set(stack)
    while stack:
        node = stack.pop()
        number: int = node._sequence_nr()
        for position, (source, _) in enumerate(node.next_functions):
            if source is None:
                continue
            variable = getattr(source, "variable", None) if source._sequence_nr() == LEAF else None
            if variable is not None:
                key = (number, position)
                order[id(variable)] = min(order.get(id(variable), key), key)
            elif source not in seen:
                seen.add(source)
                stack.append(source)
                if len(seen) > MAX_NODES:
                    return {}
    return order
