"""Find advantages with a gradient: the loss of a policy that trains the critic as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from seismograd.capture.graph.gradient_stops import COMPARING
from seismograd.capture.graph.loss_graph import (
    JOINING,
    SCALING,
    LossGraph,
    below_views,
    leaves_behind,
)
from seismograd.capture.graph.traversal import SAME_VALUES, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.policy_losses import policy_losses
from seismograd.schema import FactKind, Site

MAX_HOPS = 64  # operations between a product and what it is made of
# what may be done to a log-probability, or to its exponential, before it is multiplied
OF_PROBABILITY = SAME_VALUES | {
    "AddBackward0",
    "CatBackward0",
    "ClampBackward0",
    "ClampBackward1",
    "DivBackward0",
    "ExpBackward0",
    "MulBackward0",
    "NegBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SqueezeBackward0",
    "StackBackward0",
    "SubBackward0",
    "SumBackward0",
    "SumBackward1",
}
# what an advantage is computed by from values
OF_VALUES = (
    SAME_VALUES
    | SCALING
    | {
        "AddBackward0",
        "CatBackward0",
        "NegBackward0",
        "SelectBackward0",
        "SliceBackward0",
        "SqueezeBackward0",
        "StackBackward0",
        "SubBackward0",
        "UnbindBackward0",
    }
)


PARTS = SAME_VALUES | {"SelectBackward0", "SliceBackward0", "SqueezeBackward0"}


@dataclass(slots=True)
class Advantages:
    """Inspects the graphs of the losses that it is given; reports each line once."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _reported: set[int] = field(default_factory=set[int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        found = None if site in self._reported else undetached(graph)
        if found is None:
            return
        self._reported.add(site)
        log_probability, value = found
        actor = {id(leaf) for leaf in leaves_behind({log_probability})}
        held = [leaf for leaf in leaves_behind({value}) if id(leaf) not in actor]
        columns = sorted(column for column in self.parameter_table.columns(held) if column >= 0)
        statements = [] if site < 0 else policy_losses(self.sites[site].file)
        self.facts.report(
            FactKind.UNDETACHED_ADVANTAGE,
            site=site,
            parameters=[self.parameter_table.parameters[column].name for column in columns],
            place=statements[0].place if statements else "",
            text="\n".join(statement.text for statement in statements),
        )


def undetached(graph: LossGraph) -> tuple[Any, Any] | None:
    """Return the log-probability and the value of an advantage that are multiplied with each other,
    where both have a graph, and a regression in the same loss trains the value.
    """
    for node in graph.nodes:
        one, other = source(node), source(node, 1)
        if node.name() != "MulBackward0" or one is None or other is None:
            continue
        for factor, rest in ((one, other), (other, one)):
            values = list(_values(rest))
            if values and _is_log_probability(factor):
                value = next((each for each in values if _is_regressed(graph, each)), None)
                if value is not None:
                    return factor, value
    return None


def _is_log_probability(node: Any) -> bool:
    """Return whether this is the logarithm of the probability of an action, or its exponential:
    picked from those of all actions, or that of a normal distribution.
    """
    below = list(nodes_below(node, OF_PROBABILITY))
    is_picked = any(each.name() == "GatherBackward0" and is_of_all(each) for each in below)
    is_squared = any(
        each.name() == "PowBackward0" and is_difference(source(each)) for each in below
    )
    return is_picked or (is_squared and any(each.name() == "LogBackward0" for each in below))


def is_of_all(node: Any) -> bool:
    """Return whether an action's is picked from the logarithms of probabilities of all."""
    given = below_views(source(node))
    if given is None:
        return False
    divisor = below_views(source(given, 1)) if given.name() == "SubBackward0" else None
    return given.name() in ("LogBackward0", "LogSoftmaxBackward0") or (
        divisor is not None and divisor.name() == "LogsumexpBackward0"
    )


def _values(node: Any) -> Iterator[Any]:
    """Yield what an advantage is computed from, itself included; nothing of what is no difference
    between returns and values.
    """
    below = list(nodes_below(node, OF_VALUES))
    for each in below:
        if each.name() == "SubBackward0" and source(each, 1) is not None:
            yield from below
            return


def _is_regressed(graph: LossGraph, node: Any) -> bool:
    """Return whether a loss compares a value with data."""
    for reader, _ in graph.readers_of_values(node, PARTS):
        name: str = reader.name()
        if name in COMPARING or (name == "PowBackward0" and is_difference(node)):
            return True
        if is_difference(reader) and any(
            after.name() in ("AbsBackward0", "PowBackward0")
            for after, _ in graph.readers_of_values(reader)
        ):
            return True
    return False


def is_difference(node: Any) -> bool:
    """Return whether this is a difference of something with a graph and data."""
    node = below_views(node)
    if node is None or node.name() != "SubBackward0":
        return False
    return (source(node) is None) != (source(node, 1) is None)


def nodes_below(node: Any, passing: frozenset[str] | set[str]) -> Iterator[Any]:
    """Yield a node and those below it, through operations of these names."""
    stack, seen = [node], {node}
    while stack and len(seen) < MAX_HOPS:
        each = stack.pop()
        yield each
        if each.name() not in passing:
            continue
        for below, _ in each.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
                if each.name() in JOINING:  # as are those of a rollout, which are alike
                    break
