"""Find what the input of a module came from: an earlier call, through an activation that is a
function, or the sum of a residual branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seismograd.capture.graph.traversal import ACTIVATIONS, LEAF

MAX_HOPS = 32
ADD = "add"
_ADDS = frozenset({"AddBackward0"})


@dataclass(frozen=True, slots=True)
class Step:
    """A node on the way: what it is, empty for one that has one input and is passed over."""

    node: Any
    kind: str = ""
    other: Any = None  # of a sum: the node of its other operand


def way_back(node: Any, known: dict[Any, Any]) -> Iterator[Step]:
    """Yield the activations and sums on the way from a node back to the first that is `known`,
    which comes last with the kind `known`; without it where the way forks otherwise, or ends.
    """
    for _ in range(MAX_HOPS):
        if node is None or node._sequence_nr() == LEAF:
            return
        if node in known:
            yield Step(node, "known")
            return
        name: str = node.name()
        inputs = [each for each, _ in node.next_functions if _leads_on(each)]
        if name in ACTIVATIONS:
            yield Step(node, ACTIVATIONS[name])
        elif name in _ADDS and len(inputs) > 1:
            inputs.sort(key=lambda each: each._sequence_nr())
            yield Step(node, ADD, inputs[0])
            inputs = inputs[-1:]
        if len(inputs) != 1:
            return
        node = inputs[0]


def _leads_on(node: Any) -> bool:
    return node is not None and node._sequence_nr() != LEAF
