"""Find losses of derivatives, as of a differential equation, one of which has no graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import LossGraph, is_leaf
from seismograd.capture.graph.loss_sums import ADDING
from seismograd.capture.graph.traversal import shape_of, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.first_order import first_order_residual
from seismograd.schema import FactKind, Site


@dataclass(slots=True)
class FirstOrderTerms:
    """Inspects the graphs of the losses that it is given."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _times: dict[int, int] = field(default_factory=dict[int, int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        if site < 0 or not self._has_coordinates(graph) or not _adds_constants(graph):
            return
        found = first_order_residual(self.sites[site].file)
        if found is None:
            return
        times = self._times[site] = self._times.get(site, 0) + 1
        self.facts.report(
            FactKind.FIRST_ORDER_TERM, site=site, times=times, place=found.place, text=found.text
        )

    def _has_coordinates(self, graph: LossGraph) -> bool:
        """Return whether the loss has derivatives with respect to something that is no parameter:
        its graph begins there.
        """
        leaves = (node.variable for node in graph.readers if is_leaf(node))
        return any(
            not isinstance(leaf, torch.nn.Parameter) and leaf not in self.parameter_table
            for leaf in leaves
        )


def _adds_constants(graph: LossGraph) -> bool:
    """Return whether a tensor without a graph is added to one that has one, number by number."""
    return any(
        node.name() in ADDING and prod(shape_of(node)) > 1 and _has_one(node)
        for node in graph.nodes
    )


def _has_one(node: Any) -> bool:
    return (source(node) is None) != (source(node, 1) is None)
