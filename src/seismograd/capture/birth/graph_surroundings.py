"""Tell what stands around an operation in its graph, below a loss that is not finite."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seismograd.capture.birth.birth import batch_size
from seismograd.capture.birth.domain import QUOTIENTS
from seismograd.capture.birth.operation import (
    name_of,
    position_of,
)
from seismograd.capture.graph.traversal import LEAF, MAX_HOPS, MAX_NODES, passes
from seismograd.tensors.saved_tensors import saved_tensor


def makers(node: Any, name: str) -> tuple[str, ...]:
    """Return what computes the operand of an operation that decides whether its result is finite,
    and what computes the operand of that.
    """
    found: list[str] = []
    position = 1 if name in QUOTIENTS else 0
    for _ in range(MAX_HOPS):
        sources = node.next_functions
        node = sources[position][0] if position < len(sources) else None
        if node is None or node._sequence_nr() == LEAF or len(found) == 2:
            break
        position = 0
        if not passes(node):
            found.append(name_of(node))
    return tuple(found)


def reads_mask(node: Any) -> bool:
    """Return whether an operation reads what a mask was put into."""
    for _ in range(MAX_HOPS):
        node = node.next_functions[0][0] if node.next_functions else None
        if node is None or node._sequence_nr() == LEAF:
            return False
        name = name_of(node)
        if name in ("masked_fill", "masked_fill_", "where", "index_put", "masked_scatter"):
            return True
        if name in ("add", "sub"):
            return any(source is None for source, _ in node.next_functions)
        if not passes(node) and name not in ("mul", "div", "to_copy"):
            return False
    return False


def batch_below(top: Any) -> int:
    """Return how many samples the first operations were given, those that read what nothing
    computed.
    """
    stack, reached, given = [top], {top}, list[tuple[int, Tensor]]()
    while stack and len(reached) < MAX_NODES:
        node = stack.pop()
        for position, (source, _) in enumerate(node.next_functions):
            if source is None:
                for name in ("input", "self", "mat1", "indices", "x1"):
                    data = saved_tensor(node, name)
                    if data is not None and position_of(name_of(node), name) in (
                        position,
                        -1,
                    ):
                        given.append((node._sequence_nr(), data))
            elif source not in reached and source._sequence_nr() != LEAF:
                reached.add(source)
                stack.append(source)
    given.sort(key=lambda pair: pair[0])
    return batch_size([tensor for _, tensor in given[:1]])
