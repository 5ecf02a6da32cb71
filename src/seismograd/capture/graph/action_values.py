"""Find regressions of action values: of what indices choose from a network's outputs, one for each
sample, as Q-learning has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from seismograd.capture.graph.loss_graph import LossGraph, below_views
from seismograd.capture.graph.regressions import compares
from seismograd.capture.graph.traversal import SAME_VALUES, saved, signed, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.schema import FactKind

MAX_NUMBERS = 1 << 16  # in a mask
PASSING = SAME_VALUES | {"SelectBackward0", "SqueezeBackward0"}


@dataclass(slots=True)
class ActionValues:
    """Inspects the graphs of the losses that it is given; reports each line once."""

    facts: Facts
    _reported: set[int] = field(default_factory=set[int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        if site in self._reported or not regresses_action_values(graph):
            return
        self._reported.add(site)
        self.facts.report(FactKind.ACTION_VALUES, site=site)


def regresses_action_values(graph: LossGraph) -> bool:
    """Return whether the graph compares chosen outputs with something that has no graph."""
    return any(_is_chosen(side) for node in graph.nodes for side in _regressed(graph, node))


def _regressed(graph: LossGraph, node: Any) -> Iterator[Any]:
    """Yield the side of a regression that has a graph, where only one has."""
    one, other = source(node), source(node, 1)
    if (one is None) == (other is None):
        return
    if compares(graph, node):
        yield one or other


def _is_chosen(node: Any) -> bool:
    """Return whether these are numbers of which indices, or a mask with a single one in each row,
    chose one for each sample.
    """
    node = below_views(node, PASSING)
    if node is None:
        return False
    name: str = node.name()
    if name == "GatherBackward0":
        index = saved(node, "index")
        return index is not None and index.ndim > 1 and index.shape[signed(node._saved_dim)] == 1
    if name == "IndexBackward0":
        return len(node._raw_saved_indices) > 1
    return name == "SumBackward1" and _is_masked(below_views(source(node)))


def _is_masked(node: Any) -> bool:
    """Return whether numbers are multiplied by a mask with a single one in each row."""
    if node is None or node.name() != "MulBackward0":
        return False
    mask = saved(node, "other" if source(node, 1) is None else "self")
    if mask is None or mask.ndim < 2 or mask.numel() > MAX_NUMBERS or mask.device.type != "cpu":
        return False
    return bool(((mask == 0) | (mask == 1)).all() and (mask.sum(-1) == 1).all())
