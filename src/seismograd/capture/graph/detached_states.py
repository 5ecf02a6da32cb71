"""Find recurrences whose state goes from one step to the next without its graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.loss_graph import JOINING, LossGraph, is_leaf
from seismograd.capture.graph.products import PRODUCTS, products_of
from seismograd.capture.graph.traversal import (
    leads_to,
    passes,
    saved,
    shape_of,
    signed,
    source,
)
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.detached_assignment import detached_assignment
from seismograd.schema import FactKind, Site

MIN_STEPS = 4  # of the recurrence
MAX_NUMBERS = 1 << 20  # in a state
# of a product, the place of what is multiplied by the weight, and the name under which it is saved
OPERANDS = {
    "AddmmBackward0": (1, "mat1"),
    "ConvolutionBackward0": (0, "input"),
    "LinearBackward0": (0, "input"),
    "MmBackward0": (0, "self"),
}
RESULTS = frozenset({"ReluBackward0", "SigmoidBackward0", "TanhBackward0"})  # that they save


class LiveState(NamedTuple):
    """Values that have a graph, and the operation that made them."""

    values: torch.Tensor
    node: Any


@dataclass(slots=True)
class DetachedStates:
    """Inspects the graphs of the losses that it is given; reports each line once."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _reported: set[int] = field(default_factory=set[int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        if site in self._reported:
            return
        found = detached_states(graph)
        names = [
            (self.parameter_table.parameters[self.parameter_table.column(weight)].name, steps)
            for weight, steps in found
            if weight in self.parameter_table
        ]
        if not names:
            return
        self._reported.add(site)
        statement = None if site < 0 else detached_assignment(self.sites[site].file)
        self.facts.report(
            FactKind.DETACHED_STATE,
            site=site,
            parameters=[name for name, _ in names],
            steps=max(steps for _, steps in names),
            place="" if statement is None else statement.place,
            text="" if statement is None else statement.text,
        )


def detached_states(graph: LossGraph) -> list[tuple[torch.Tensor, int]]:
    """Return the weights that are multiplied by a state without a graph at each of several steps,
    where the same numbers have a graph that leads to the step before; and the number of steps.
    """
    found: list[tuple[torch.Tensor, int]] = []
    states: list[LiveState] | None = None
    for leaf in graph.readers:
        weight = getattr(leaf, "variable", None) if is_leaf(leaf) else None
        if weight is None or weight.ndim < 2:
            continue
        products = products_of(leaf, graph.readers)
        operands = [operand for node in products if (operand := _without_graph(node)) is not None]
        if len(products) < MIN_STEPS or len(operands) != len(products):
            continue
        if states is None:
            states = list(_states(graph))
        if all(
            any(_is_cut(state.node, products[:at]) for state in _same(operands[at], states))
            for at in {2, len(products) // 2, len(products) - 1}
        ):
            found.append((weight, len(products)))
    return found


def _without_graph(product: Any) -> torch.Tensor | None:
    """Return what a product multiplies a weight by, where that has no graph."""
    if product.name() not in OPERANDS:
        return None
    place, name = OPERANDS[product.name()]
    if source(product, place) is not None:
        return None
    operand = saved(product, name)
    return None if operand is None or not 0 < operand.numel() <= MAX_NUMBERS else operand


def _states(graph: LossGraph) -> Iterator[LiveState]:
    """Yield values with a graph that operations of this graph have kept: what goes into a product,
    each part of it where it was put together of parts, and what an activation gave.
    """
    for node in graph.nodes:
        name: str = node.name()
        if name in RESULTS:
            values = saved(node, "result")
            if values is not None:
                yield LiveState(values, node)
        elif name in PRODUCTS and name in OPERANDS:
            place, attribute = OPERANDS[name]
            made = source(node, place)
            values = None if made is None else saved(node, attribute)
            if values is not None:
                while made is not None and passes(made):
                    made = source(made)
                yield from _parts(values, made)


def _parts(values: torch.Tensor, made: Any) -> Iterator[LiveState]:
    if made is None:
        return
    yield LiveState(values, made)
    shape = shape_of(made)
    if made.name() not in JOINING or values.numel() != torch.Size(shape).numel():
        return
    dim = signed(made._saved_dim)
    below = [node for node, _ in made.next_functions]
    joined = values.reshape(shape)
    if shape[dim] % len(below):
        return
    for node, part in zip(below, joined.chunk(len(below), dim), strict=False):
        if node is not None:
            yield LiveState(part, node)


def _same(operand: torch.Tensor, states: list[LiveState]) -> Iterator[LiveState]:
    """Yield the states with the same numbers, not all of which are zero."""
    if not operand.any():
        return
    flat = operand.reshape(-1)
    for state in states:
        values = state.values
        if (
            values.numel() == flat.numel()
            and values.dtype == flat.dtype
            and values.device == flat.device
            and torch.equal(values.reshape(-1), flat)
        ):
            yield state


def _is_cut(node: Any, before: list[Any]) -> bool:
    """Return whether an operation depends on the last of some products, and not, on another way
    through time, on the one before that.
    """
    return leads_to(node, before[-1]) and not leads_to(node, before[-2])
