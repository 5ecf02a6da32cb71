"""Find learned weights of the terms of a loss that nothing but these terms holds: a positive
function of a parameter, by which a whole term is multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.loss_graph import LossGraph, is_leaf
from seismograd.capture.graph.traversal import SAME_VALUES, saved, source
from seismograd.capture.graph.zero_gradient_origin import leaves_reached
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.weighted_losses import weighting_statement
from seismograd.schema import FactKind, Site

MAX_TERMS = 64
MAX_TOLD = 8  # parameters of one loss
MAX_NUMBERS = 64  # of a parameter that weighs
MAX_HOPS = 16  # from a weight to its parameter
POSITIVE = frozenset({"ExpBackward0", "Exp2Backward0", "SigmoidBackward0", "SoftplusBackward0"})
# what a weight is made of besides, with one operand that has a graph
PASSING = SAME_VALUES | {
    "AddBackward0",
    "DivBackward0",
    "IndexBackward0",
    "MulBackward0",
    "NegBackward0",
    "PowBackward0",
    "ReciprocalBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SqueezeBackward0",
    "UnbindBackward0",
}


class LossWeight(NamedTuple):
    """A parameter, the largest of the weights that are a positive function of it, and the least of
    the terms that these weigh.
    """

    leaf: torch.Tensor
    value: float
    least: float


@dataclass(slots=True)
class LossWeights:
    """Inspects the graphs of the losses that it is given. A parameter that any of them has in
    another way, as in a term that keeps it where it is, is not told any more.
    """

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _times: dict[str, int] = field(default_factory=dict[str, int])  # by parameter
    _held: set[str] = field(default_factory=set[str])  # by something else as well

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        found = {self._name(each.leaf): each for each in loss_weights(graph)[:MAX_TOLD]}
        if not found and not self._times:
            return
        there = [node.variable for node in graph.readers if is_leaf(node)]
        self._held |= {self._name(leaf) for leaf in there if leaf is not None} - found.keys()
        shown = None
        if site >= 0:
            shown = weighting_statement(self.sites[site].file, self.sites[site].line)
        for name, weight in found.items():
            if not name or name in self._held:
                continue
            self._times[name] = self._times.get(name, 0) + 1
            table = self.parameter_table
            holder = table.parameters[table.column(weight.leaf)].optimizer
            self.facts.report(
                FactKind.LOSS_WEIGHT,
                site=site,
                optimizer=-1 if holder is None else holder,
                parameters=[name],
                weight=weight.value,
                least=weight.least,
                times=self._times[name],
                place="" if shown is None else shown.place,
                text="" if shown is None else shown.text,
            )

    def _name(self, leaf: torch.Tensor) -> str:
        """Return the name of a parameter that an optimizer holds; empty for others."""
        (column,) = self.parameter_table.columns([leaf])
        parameter = self.parameter_table.parameters[column] if column >= 0 else None
        return "" if parameter is None or parameter.optimizer is None else parameter.name


def loss_weights(graph: LossGraph) -> list[LossWeight]:
    """Return the parameters by a positive function of which a term is multiplied, or divided, and
    which the loss reaches in no other way.
    """
    terms = graph.terms()
    if len(terms) > MAX_TERMS:
        return []
    found: dict[int, LossWeight] = {}
    others: list[Any] = []  # where none of them may be
    for term in terms:
        weight = _weight_of(term)
        if weight is None:
            others.append(term)
            continue
        position, one = weight
        others.append(source(term, 1 - position))
        before = found.get(id(one.leaf), one)
        value, least = max(one.value, before.value), min(one.least, before.least)
        found[id(one.leaf)] = LossWeight(one.leaf, value, least)
    if not found:
        return []
    reached = leaves_reached(others, lambda _node: ())
    return [weight for key, weight in found.items() if key not in reached]


def _weight_of(term: Any) -> tuple[int, LossWeight] | None:
    """Return which operand of a term weighs the other one, of as many numbers, and as what."""
    name: str = term.name()
    positions = {"MulBackward0": (0, 1), "DivBackward0": (1,)}.get(name, ())
    if source(term) is None or source(term, 1) is None:
        return None
    for position in positions:
        leaf = _parameter_behind(source(term, position))
        sides = saved(term, "self"), saved(term, "other")
        if leaf is None or any(side is None for side in sides):
            continue
        weight, weighed = sides[position], sides[1 - position]
        if weight is None or weighed is None or weight.numel() != weighed.numel():
            continue
        with torch.no_grad():
            size = weight.abs()
            largest = float(size.max() if name == "MulBackward0" else 1 / size.min())
            least = float(weighed.min())
        return position, LossWeight(leaf, largest, least)
    return None


def _parameter_behind(node: Any) -> torch.Tensor | None:
    """Return the parameter of which a value is a positive function; `None` where it is none."""
    is_positive = False
    for _ in range(MAX_HOPS):
        if node is None:
            return None
        if is_leaf(node):
            leaf = getattr(node, "variable", None)
            return leaf if is_positive and leaf is not None and _is_small(leaf) else None
        name: str = node.name()
        live = [below for below, _ in node.next_functions if below is not None]
        if len(live) != 1 or (name not in POSITIVE and name not in PASSING):
            return None
        is_even = name == "PowBackward0" and float(node._saved_exponent) % 2 == 0
        is_positive |= is_even or name in POSITIVE
        node = live[0]
    return None


def _is_small(leaf: torch.Tensor) -> bool:
    return leaf.numel() <= MAX_NUMBERS
