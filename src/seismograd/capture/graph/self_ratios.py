"""Find ratios of a policy with itself: the exponential of a difference of two log-probabilities
that the same parameters gave, both with a graph, so that their gradients cancel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from seismograd.capture.graph.loss_graph import SCALING, LossGraph, below_views, leaves_behind
from seismograd.capture.graph.traversal import (
    LOOK_UPS,
    SAME_VALUES,
    leads_to,
    passes,
    saved,
    source,
)
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.policy_ratios import policy_ratio, same_object
from seismograd.schema import FactKind, Site

MAX_NAMES = 64
MAX_NUMBERS = 1 << 24  # of a ratio that is read
MIN_NUMBERS = 2
MAX_RATIOS = 16  # looked at in one graph
CLAMPS = frozenset({"ClampBackward0", "ClampBackward1", "ClampMinBackward0", "ClampMaxBackward0"})
# between the difference and its exponential
OF_DIFFERENCE = SAME_VALUES | CLAMPS | {"SumBackward1", "MeanBackward1", "SqueezeBackward0"}
# what a quotient is of: probabilities
PROBABILITIES = LOOK_UPS | {"ExpBackward0"}


@dataclass(slots=True)
class Sighting:
    """How often a line's ratio was one, each time after other steps: the numbers of `steps`."""

    times: int = 0
    steps: tuple[int, ...] = ()
    is_refuted: bool = False


@dataclass(slots=True)
class SelfRatios:
    """Inspects the graphs of the losses that it is given, until one at the same line has such a
    ratio that is not one: then the weights of both sides were alike, and no more.
    """

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _seen: dict[int, Sighting] = field(default_factory=dict[int, Sighting])

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        seen = self._seen.setdefault(site, Sighting())
        steps = tuple(window.num_steps for window in windows)
        if seen.is_refuted or steps == seen.steps:
            return
        found: Any = None
        for ratio, is_one in self_ratios(graph):
            if not is_one:
                seen.is_refuted = True
                return
            found = ratio
        if found is None:
            return
        seen.times, seen.steps = seen.times + 1, steps
        self._report(site, found, windows, seen.times)

    def _report(
        self,
        site: int,
        ratio: Any,
        windows: Sequence[OptimizerWindow],
        times: int,
    ) -> None:
        table = self.parameter_table
        columns = set(table.columns(leaves_behind({ratio})))
        shown = None if site < 0 else policy_ratio(self.sites[site].file)
        same = None if shown is None else same_object(shown)
        blamed = same or shown
        for window in windows:
            names = [each.name for each in table.updated_by(window.index, columns)]
            if names:
                self.facts.report(
                    FactKind.SELF_RATIO,
                    site=site,
                    optimizer=window.index,
                    parameters=names[:MAX_NAMES],
                    num=len(names),
                    times=times,
                    ratio="" if shown is None else shown.place,
                    place="" if blamed is None else blamed.place,
                    text="" if blamed is None else blamed.text,
                    is_alias=float(same is not None),
                )


def self_ratios(graph: LossGraph) -> Iterator[tuple[Any, bool]]:
    """Yield the ratios whose two sides have a graph that leads to the same parameters, neither
    computed from the other, and whether all of their numbers are one.
    """
    num = 0
    for node in graph.nodes:
        sides = _sides(node)
        if sides is None or num == MAX_RATIOS:
            continue
        num += 1
        one, other = (below_views(each) for each in sides)
        if one is None or other is None or not _leads_to_the_same(one, other):
            continue
        is_one = _is_one(node)
        if is_one is not None and not _scales_what_has_a_graph(graph, node):
            yield node, is_one


def _sides(node: Any) -> tuple[Any, Any] | None:
    """Return the two sides of what may be a ratio, both with a graph."""
    name: str = node.name()
    if name == "DivBackward0":
        one, other = below_views(source(node)), below_views(source(node, 1))
        if one is None or other is None or not {one.name(), other.name()} <= PROBABILITIES:
            return None
        return one, other
    difference = difference_in(node)
    if difference is None:
        return None
    one, other = source(difference), source(difference, 1)
    return None if one is None or other is None else (one, other)


def difference_in(node: Any) -> Any:
    """Return the difference that an exponential is of; `None` where the node is something else."""
    below = source(node) if node.name() == "ExpBackward0" else None
    while below is not None and passes(below, OF_DIFFERENCE):
        below = source(below)
    return below if below is not None and below.name() == "SubBackward0" else None


def _leads_to_the_same(one: Any, other: Any) -> bool:
    """Return whether two nodes have the same leaves behind them, and neither is behind the other,
    as what a softmax subtracts is computed from its logits.
    """
    if one is not other and (leads_to(other, one) or leads_to(one, other)):
        return False
    mine, theirs = ({id(leaf) for leaf in leaves_behind({each})} for each in (one, other))
    return bool(mine) and mine == theirs


def _is_one(node: Any) -> bool | None:
    """Return whether all numbers of a ratio are one; `None` where that is not known."""
    if node.name() == "DivBackward0":
        above, below = saved(node, "self"), saved(node, "other")
        if above is None or below is None or not MIN_NUMBERS <= above.numel() <= MAX_NUMBERS:
            return None
        return above.shape == below.shape and bool((above == below).all())
    result = saved(node, "result")
    if result is None or not MIN_NUMBERS <= result.numel() <= MAX_NUMBERS:
        return None
    return bool((result == 1).all())


def _scales_what_has_a_graph(graph: LossGraph, node: Any) -> bool:
    """Return whether a ratio weighs what has a gradient of its own, which it leaves as it is."""
    for reader, passed in graph.readers_of_values(node, SAME_VALUES | CLAMPS):
        live = [below for below, _ in reader.next_functions if below is not None]
        if reader.name() in SCALING and any(below is not passed for below in live):
            return True
    return False
