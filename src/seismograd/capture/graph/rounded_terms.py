"""Find the terms of a loss that reach parameters only through operations whose derivative is zero
everywhere, such as a rounding, while other terms train these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.gradient_stops import rounding_of
from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.traversal import source
from seismograd.capture.graph.zero_gradient_origin import leaves_reached
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.rounding_calls import rounding_call
from seismograd.schema import FactKind, Site

MAX_NAMES = 64
MAX_TERMS = 32  # looked at in one graph


class RoundedTerm(NamedTuple):
    """The operation that blocks a term, and the leaves that it would otherwise reach."""

    operation: str
    leaves: list[torch.Tensor]


@dataclass(slots=True)
class RoundedTerms:
    """Inspects the graphs of the losses that it is given."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        for term in rounded_terms(graph):
            table = self.parameter_table
            columns = {table.column(leaf) for leaf in term.leaves if leaf in table} - {-1}
            names = [table.parameters[column].name for column in sorted(columns)]
            if not names:
                continue
            shown = None
            if site >= 0:
                backward = self.sites[site]
                shown = rounding_call(backward.file, backward.line, term.operation)
            self.facts.report(
                FactKind.ROUNDED_TERM,
                site=site,
                parameters=names[:MAX_NAMES],
                num=len(names),
                operation=term.operation,
                place="" if shown is None else shown.place,
                text="" if shown is None else shown.text,
            )
            return


def rounded_terms(graph: LossGraph) -> list[RoundedTerm]:
    """Return the terms that no gradient leaves though there are leaves behind them, all of which
    other terms reach: where one is left alone, its gradient is zero, and that shows.
    """
    if not any(map(rounding_of, graph.nodes)):
        return []
    terms = sorted(graph.terms(), key=lambda node: node._sequence_nr())
    if not 1 < len(terms) <= MAX_TERMS:
        return []
    blocked: list[tuple[Any, RoundedTerm]] = []
    reached: set[int] = set()
    alive: set[Any] = set()
    for term in terms:
        operations: list[str] = []
        passed = leaves_reached([term], lambda node, into=operations: _blocked(node, into))
        reached.update(passed)
        if passed:
            alive.add(term)
        elif operations and (behind := leaves_reached([term], lambda _node: ())):
            blocked.append((term, RoundedTerm(operations[0], [*behind.values()])))
    return [
        found
        for term, found in blocked
        if all(id(leaf) in reached for leaf in found.leaves) and not _is_of_a_term(term, alive)
    ]


def _blocked(node: Any, into: list[str]) -> range:
    operation = rounding_of(node)
    if not operation:
        return range(0)
    into.append(operation)
    return range(len(node.next_functions))


def _is_of_a_term(term: Any, alive: set[Any]) -> bool:
    """Return whether a term rounds what another one has whole, as in `x - floor(x)`, of which a
    gradient is left.
    """
    if not rounding_of(term):
        return False
    inside = LossGraph([source(term)])
    return not alive.isdisjoint(inside.terms())
