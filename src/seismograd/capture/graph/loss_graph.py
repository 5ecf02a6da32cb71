"""The graph of a loss as a whole: who reads what, and of which terms it is the sum."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import torch

from seismograd.capture.graph.traversal import LEAF, SAME_VALUES, passes, source

MAX_NODES = 20_000

SUMMING = SAME_VALUES | {  # operations whose result is a sum of what they are given, or some of it
    "AddBackward0",
    "AliasBackward0",
    "CatBackward0",
    "IndexBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "NegBackward0",
    "RsubBackward1",
    "SelectBackward0",
    "SliceBackward0",
    "SqueezeBackward0",
    "StackBackward0",
    "SubBackward0",
    "SumBackward0",
    "SumBackward1",
}
JOINING = frozenset({"CatBackward0", "StackBackward0"})
SCALING = frozenset({"DivBackward0", "DivBackward1", "MulBackward0", "MulBackward1"})


class LossGraph:
    """The nodes below those of some losses, what was made first before what was made of it;
    without any where there are more than `MAX_NODES`.
    """

    def __init__(self, tops: list[Any]) -> None:
        self.tops = [top for top in tops if top is not None]
        self.readers: dict[Any, list[Any]] = {top: [] for top in self.tops}
        stack = [*self.tops]
        while stack:
            node = stack.pop()
            for below, _ in node.next_functions:
                if below is None:
                    continue
                if below not in self.readers:
                    self.readers[below] = []
                    stack.append(below)
                self.readers[below].append(node)
            if len(self.readers) > MAX_NODES:
                self.readers.clear()
                break
        made = [node for node in self.readers if not is_leaf(node)]
        self.nodes: list[Any] = sorted(made, key=lambda node: node._sequence_nr())

    def reaching(self, nodes: set[Any]) -> set[Any]:
        """Return these nodes, and all that are made of any of them."""
        stack, found = [*nodes], set(nodes)
        while stack:
            for reader in self.readers[stack.pop()]:
                if reader not in found:
                    found.add(reader)
                    stack.append(reader)
        return found

    def terms(self) -> set[Any]:
        """Return the nodes whose results are added up, each multiplied by numbers at most."""
        stack, seen = [*self.tops], set(self.tops)
        found: set[Any] = set()
        while stack:
            node = stack.pop()
            name: str = node.name()
            live = [below for below, _ in node.next_functions if below is not None]
            if name not in SUMMING and not (name in SCALING and len(live) == 1):
                found.add(node)
                continue
            for below in live:
                if below not in seen:
                    seen.add(below)
                    stack.append(below)
        return found

    def readers_of_values(
        self, node: Any, passing: Set[str] = SAME_VALUES
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the nodes that compute with what a node gave, each with the one that passed it the
        same values, or what operations of other names are `passing`.
        """
        stack, seen = [node], {node}
        while stack:
            passed = stack.pop()
            for reader in self.readers[passed]:
                if not passes(reader, passing):
                    yield reader, passed
                elif reader not in seen:
                    seen.add(reader)
                    stack.append(reader)


def leaves_behind(nodes: set[Any]) -> list[torch.Tensor]:
    """Return the leaf tensors that any of these nodes reaches."""
    stack, seen = [*nodes], set(nodes)
    found: list[torch.Tensor] = []
    while stack:
        node = stack.pop()
        leaf = getattr(node, "variable", None) if is_leaf(node) else None
        if leaf is not None:
            found.append(leaf)
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
    return found


def is_leaf(node: Any) -> bool:
    """Return whether a node stands for a leaf tensor."""
    return node._sequence_nr() == LEAF


def below_views(node: Any, passing: Set[str] = SAME_VALUES) -> Any:
    """Return the node that made the values that a node passes on, or what operations of other names
    are `passing`.
    """
    while node is not None and passes(node, passing):
        node = source(node)
    return node
