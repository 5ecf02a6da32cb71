"""Find the products in which a weight is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seismograd.capture.graph.traversal import passes

PRODUCTS = frozenset(
    {"AddmmBackward0", "BmmBackward0", "ConvolutionBackward0", "LinearBackward0", "MmBackward0"}
)


def products_of(leaf: Any, readers: Mapping[Any, list[Any]]) -> list[Any]:
    """Return the products that read a leaf, or a view of it, in the order of the forward pass;
    `readers` has the nodes that read a node.
    """
    products: set[Any] = set()
    stack, seen = [leaf], {leaf}
    while stack:
        for node in readers.get(stack.pop(), ()):
            if node.name() in PRODUCTS:
                products.add(node)
            elif passes(node) and node not in seen:
                seen.add(node)
                stack.append(node)
    return sorted(products, key=lambda node: node._sequence_nr())
