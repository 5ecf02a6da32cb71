"""Tell which operations of a graph compare numbers with others, as a regression does."""

from __future__ import annotations

from typing import Any

from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.traversal import source

REGRESSIONS = frozenset({"HuberLossBackward0", "MseLossBackward0", "SmoothL1LossBackward0"})
SIZES = frozenset({"AbsBackward0", "PowBackward0"})  # of a difference


def compares(graph: LossGraph, node: Any) -> bool:
    """Return whether a node is a loss function of a regression, or a difference of which the graph
    takes the square or the absolute value: it has the two sides.
    """
    name: str = node.name()
    return name in REGRESSIONS or (
        name == "SubBackward0"
        and any(
            reader.name() in SIZES
            or (reader.name() == "MulBackward0" and source(reader) is source(reader, 1))
            for reader, _ in graph.readers_of_values(node)
        )
    )
