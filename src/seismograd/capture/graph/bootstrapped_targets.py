"""Find targets that are bootstrapped from a network and have a graph: the regression trains what it
should only be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from seismograd.capture.graph.loss_graph import JOINING, LossGraph, below_views, leaves_behind
from seismograd.capture.graph.regressions import compares
from seismograd.capture.graph.traversal import saved, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.bootstrapping import bootstrapping
from seismograd.schema import FactKind, Site

MIN_DISCOUNT = 0.8
MAX_FACTORS = 3  # a discount, and masks of what has ended
MAX_NUMBERS = 1 << 16  # in a mask
MAX_PARTS = 64  # of a rollout's targets


@dataclass(slots=True)
class BootstrappedTargets:
    """Inspects the graphs of the losses that it is given; reports each line once."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _reported: set[int] = field(default_factory=set[int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        found = None if site in self._reported else live_target(graph)
        if found is None:
            return
        self._reported.add(site)
        prediction, value, discount = found
        trained = {id(leaf) for leaf in leaves_behind({prediction})}
        both = [leaf for leaf in leaves_behind({value}) if id(leaf) in trained]
        columns = sorted(column for column in self.parameter_table.columns(both) if column >= 0)
        statement = None if site < 0 else bootstrapping(self.sites[site].file)
        self.facts.report(
            FactKind.UNDETACHED_TARGET,
            site=site,
            parameters=[self.parameter_table.parameters[column].name for column in columns],
            discount=discount,
            place="" if statement is None else statement.place,
            text="" if statement is None else statement.text,
        )


def live_target(graph: LossGraph) -> tuple[Any, Any, float] | None:
    """Return a prediction, the value that its target is bootstrapped from, and the discount of that
    value, where both have a graph and come from the same parameters.
    """
    for node in graph.nodes:
        for prediction, target in _compared(graph, node):
            found = next(filter(None, map(_bootstrapped, _parts(target))), None)
            if found is not None:
                value, discount = found
                trained = {id(leaf) for leaf in leaves_behind({prediction})}
                if any(id(leaf) in trained for leaf in leaves_behind({value})):
                    return prediction, value, discount
    return None


def _parts(target: Any) -> list[Any]:
    """Return what a target is joined of, as that of a rollout is of its steps; else itself."""
    node = below_views(target)
    if node is None or node.name() not in JOINING:
        return [node]
    return [below for below, _ in node.next_functions[:MAX_PARTS]]


def _compared(graph: LossGraph, node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the two sides of a regression, either way round, where both have a graph."""
    one, other = source(node), source(node, 1)
    if one is None or other is None:
        return
    if compares(graph, node):
        yield one, other
        yield other, one


def _bootstrapped(node: Any) -> tuple[Any, float] | None:
    """Return the value and its discount in `reward + discount * value`, of which the reward has no
    graph, and the value may be multiplied by masks as well.
    """
    node = below_views(node)
    if node is None or node.name() != "AddBackward0":
        return None
    sources = source(node), source(node, 1)
    if (sources[0] is None) == (sources[1] is None):
        return None
    value = below_views(sources[0] if sources[0] is not None else sources[1])
    discount = 0.0
    for _ in range(MAX_FACTORS):
        if value is None or value.name() != "MulBackward0":
            break
        factors = source(value), source(value, 1)
        if (factors[0] is None) == (factors[1] is None):
            break
        factor = saved(value, "other" if factors[1] is None else "self")
        if factor is not None and 0 < factor.numel() <= MAX_NUMBERS and factor.device.type == "cpu":
            largest = float(factor.max())  # a discount may be in a mask
            discount = largest if largest != 1 else discount
        value = below_views(factors[0] if factors[0] is not None else factors[1])
    return (value, discount) if value is not None and MIN_DISCOUNT <= discount < 1 else None
