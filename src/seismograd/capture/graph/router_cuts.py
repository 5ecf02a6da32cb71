"""Find routers whose probabilities reach a loss only by their mean over the batch, as in the term
that balances experts: the choice that they make for a sample trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from seismograd.capture.graph.loss_graph import LossGraph, is_leaf, leaves_behind
from seismograd.capture.graph.loss_sums import ONE_NUMBER
from seismograd.capture.graph.traversal import SAME_VALUES, passes, shape_of, signed, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.routing import routing
from seismograd.schema import FactKind, Site

REDUCING = frozenset({"MeanBackward1", "SumBackward1"})
LAYERS = frozenset({"AddmmBackward0", "MmBackward0"})
# what may stand between a router and its softmax
PASSING = SAME_VALUES | {"AddBackward0", "DivBackward0", "MulBackward0", "ToCopyBackward0"}
BESIDE = frozenset({"LogsumexpBackward0"})  # of the logits: keeps them small


@dataclass(slots=True)
class RouterCuts:
    """Inspects the graphs of the losses that it is given."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _times: dict[int, int] = field(default_factory=dict[int, int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        found = cut_routers(graph)
        if not found:
            return
        table = self.parameter_table
        behind = [leaf for layer in found for leaf in _own_leaves(layer) if leaf in table]
        if not behind:
            return
        names = [table.parameters[column].name for column in sorted(table.columns(behind))]
        times = self._times[site] = self._times.get(site, 0) + 1
        statement = None if site < 0 else routing(self.sites[site].file)
        self.facts.report(
            FactKind.ROUTER_CUT,
            site=site,
            parameters=names,
            times=times,
            place="" if statement is None else statement.place,
            text="" if statement is None else statement.text,
        )


def cut_routers(graph: LossGraph) -> list[Any]:
    """Return the layers in front of a softmax over the last dimension that is only averaged over
    the samples, where nothing else reads what the layer computes, nor its weights, and the loss
    reaches parameters in other ways.
    """
    found: list[Any] = []
    for node in graph.nodes:
        if node.name() != "SoftmaxBackward0" or not _is_over_last(node):
            continue
        readers = [reader for reader, _ in graph.readers_of_values(node)]
        if not readers or not all(_averages(each, shape_of(node)) for each in readers):
            continue
        if not _is_alone(graph, node, readers):
            continue
        layer = source(node)
        while layer is not None and layer.name() in PASSING and _only_source(layer) is not None:
            layer = _only_source(layer)
        if layer is not None and layer.name() in LAYERS and _leads_only_to(graph, layer, node):
            found.append(layer)
    routers = {id(leaf) for layer in found for leaf in _own_leaves(layer)}
    others = [leaf for leaf in leaves_behind(set(graph.tops)) if id(leaf) not in routers]
    return found if routers and others else []


def _is_over_last(node: Any) -> bool:
    shape, dim = shape_of(node), signed(node._saved_dim)
    return len(shape) > 1 and dim in (-1, len(shape) - 1) and prod(shape[:-1]) > 1 < shape[-1]


def _averages(reader: Any, shape: tuple[int, ...]) -> bool:
    """Return whether one number for each expert is left of those of all samples."""
    return reader.name() in REDUCING and prod(shape_of(reader)) == shape[-1] == shape_of(reader)[-1]


def _is_alone(graph: LossGraph, softmax: Any, averages: list[Any]) -> bool:
    """Return whether what is computed from the averages, up to single numbers, depends on nothing
    else that has a graph: no expert is weighted by them.
    """
    own = {id(leaf) for leaf in leaves_behind({softmax})}
    terms = {each for each in graph.reaching(set(averages)) if shape_of(each) not in ONE_NUMBER}
    return all(id(leaf) in own for leaf in leaves_behind(terms))


def _only_source(node: Any) -> Any:
    """Return what an operation computes with, where the rest of it has no graph."""
    live = [below for below, _ in node.next_functions if below is not None]
    return live[0] if len(live) == 1 else None


def _leads_only_to(graph: LossGraph, layer: Any, softmax: Any) -> bool:
    """Return whether what a layer computes goes into this softmax and nowhere else, and its weights
    into this layer.
    """
    stack, seen = [layer], {layer}
    while stack:
        for reader in graph.readers[stack.pop()]:
            if reader is softmax or reader in seen or reader.name() in BESIDE:
                continue
            if reader.name() not in PASSING:
                return False
            seen.add(reader)
            stack.append(reader)
    own = _own_leaf_nodes(layer)
    return bool(own) and all(
        len(graph.readers[leaf]) == 1 and all(len(graph.readers[view]) == 1 for view in views)
        for leaf, views in own
    )


def _own_leaf_nodes(layer: Any) -> list[tuple[Any, list[Any]]]:
    """Return the leaves that a layer reads itself, its weight and its bias, with the views in
    between.
    """
    found: list[tuple[Any, list[Any]]] = []
    for below, _ in layer.next_functions:
        node, views = below, list[Any]()
        while node is not None and passes(node):
            views.append(node)
            node = source(node)
        if node is not None and is_leaf(node):
            found.append((node, views))
    return found


def _own_leaves(layer: Any) -> list[Any]:
    return [leaf.variable for leaf, _ in _own_leaf_nodes(layer)]
