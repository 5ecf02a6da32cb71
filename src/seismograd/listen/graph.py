"""The order in which the parameters were used in the forward pass, read from the autograd graph of a loss."""

from __future__ import annotations

from typing import Any

import torch

MAX_NODES = 200_000
LEAF = (1 << 64) - 1  # the sequence number of AccumulateGrad


def leaves_in_order(tops: list[Any]) -> list[torch.Tensor]:
    """Every leaf tensor that the graph below these nodes reaches, in the order of first use in the forward pass.

    Autograd numbers its nodes in the order in which the forward pass makes them (`Node._sequence_nr`), so the smallest number among the
    nodes that read a leaf is when it was first used; inputs of the same node keep their order. Empty for a graph of more than
    `MAX_NODES` nodes.
    """
    found: dict[int, tuple[tuple[int, int], torch.Tensor]] = {}
    stack: list[Any] = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    while stack:
        node = stack.pop()
        number: int = node._sequence_nr()
        for position, (source, _) in enumerate(node.next_functions):
            if source is None:
                continue
            leaf = getattr(source, "variable", None) if source._sequence_nr() == LEAF else None
            if leaf is not None:
                key = (number, position)
                found[id(leaf)] = (min(found[id(leaf)][0], key) if id(leaf) in found else key, leaf)
            elif source not in seen:
                seen.add(source)
                stack.append(source)
                if len(seen) > MAX_NODES:
                    return []
    return [leaf for _, leaf in sorted(found.values(), key=lambda pair: pair[0])]
