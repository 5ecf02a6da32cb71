"""Find values that are divided by their own sum, norm or maximum over a dimension of one element:
the result is one, or the sign, whatever the value is, and passes no gradient on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.loss_graph import LossGraph, is_leaf
from seismograd.capture.graph.traversal import passes, saved, source
from seismograd.capture.graph.zero_gradient_origin import leaves_reached
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.own_shares import own_share
from seismograd.schema import FactKind, Site, ZeroCause

MAX_NAMES = 64
MAX_TERMS = 32  # of a loss, looked at one by one
MAX_GUARDS = 4  # operations that keep a divisor from zero
MIN_NUMBERS, MAX_NUMBERS = 2, 1 << 22  # of a quotient that is read
NEAR_ONE = 1e-4  # what is added to a divisor
SIZES = {
    "AmaxBackward0": "maximum",
    "LinalgVectorNormBackward0": "norm",
    "MaxBackward0": "maximum",
    "NormBackward1": "norm",
    "NormBackward2": "norm",
    "SumBackward1": "sum",
}
GUARDS = frozenset(
    {"AddBackward0", "ClampBackward0", "ClampBackward1", "ClampMinBackward0", "AbsBackward0"}
)


class Cut(NamedTuple):
    """The leaves behind shares of one that a term of the loss reaches in no other way, the name of
    the size that is divided by, and whether other terms reach these leaves.
    """

    leaves: list[torch.Tensor]
    size: str
    has_others: bool


@dataclass(slots=True)
class SharesOfOne:
    """Looks at the first graphs of each line of the script, and ever more rarely; where one has no
    such share, never again.
    """

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _times: dict[int, int] = field(default_factory=dict[int, int])  # by line; 0: without one

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        times = self._times.get(site, -1)
        if times == 0:
            return
        cut = cut_off(graph)
        self._times[site] = 0 if cut is None else max(times, 0) + 1
        if cut is not None:
            self._report(site, cut, windows, self._times[site])

    def _report(self, site: int, cut: Cut, windows: Sequence[OptimizerWindow], times: int) -> None:
        table = self.parameter_table
        columns = set(table.columns(cut.leaves))
        shown = None
        if site >= 0:
            shown = own_share(self.sites[site].file, self.sites[site].line)
        for window in windows:
            names = [each.name for each in table.updated_by(window.index, columns)]
            if names:
                self.facts.report(
                    FactKind.ZERO_GRADIENT,
                    site=site,
                    optimizer=window.index,
                    parameters=names[:MAX_NAMES],
                    cause=str(ZeroCause.SHARE_OF_ONE),
                    operation=cut.size,
                    weight="",
                    num=len(names),
                    times=times,
                    others=float(cut.has_others),
                    place="" if shown is None else shown.place,
                    text="" if shown is None else shown.text,
                )


def cut_off(graph: LossGraph) -> Cut | None:
    """Return what shares of one cut off from the terms of a loss; of that rather what no other term
    reaches. `None` where there is nothing.
    """
    shares = {node: size for node in graph.nodes if (size := size_of_one(node))}
    if not shares:
        return None
    terms = list(graph.terms())
    left: dict[int, torch.Tensor] = {}
    reached: set[int] = set()
    for term in terms if len(terms) <= MAX_TERMS else graph.tops:
        every = leaves_reached([term], lambda _node: ())
        passed = leaves_reached([term], lambda node: (0, 1) if node in shares else ())
        reached.update(passed)
        left.update((key, leaf) for key, leaf in every.items() if key not in passed)
    alone = [leaf for key, leaf in left.items() if key not in reached]
    return Cut(alone or [*left.values()], next(iter(shares.values())), not alone) if left else None


def size_of_one(node: Any) -> str:
    """Return by which size of itself, over one element, a node divides what was computed; empty
    where it does not. A parameter may be divided so, as where its length is another parameter.
    """
    if node.name() != "DivBackward0" or source(node) is None or source(node, 1) is None:
        return ""
    value, (size, output) = _origin(node, 0), _origin(node, 1)
    if value[0] is None or is_leaf(value[0]):
        return ""
    for _ in range(MAX_GUARDS):
        if size is None or size.name() not in GUARDS:
            break
        size, output = _only(size)
    if size is None or output != 0 or size.name() not in SIZES:
        return ""
    measured = _origin(size, 0)
    if measured[0] is not None and measured[0].name() == "AbsBackward0":
        measured = _origin(measured[0], 0)
    return SIZES[size.name()] if measured == value and _is_of_one(node) else ""


def _origin(node: Any, position: int) -> tuple[Any, int]:
    """Return the node whose values an operand has, and which of its results."""
    below, output = node.next_functions[position]
    while below is not None and passes(below):
        below, output = below.next_functions[0]
    return below, output


def _only(node: Any) -> tuple[Any, int]:
    """Return the only operand with a graph."""
    live = [at for at, (below, _) in enumerate(node.next_functions) if below is not None]
    return _origin(node, live[0]) if len(live) == 1 else (None, 0)


def _is_of_one(node: Any) -> bool:
    """Return whether a quotient is one or minus one wherever it is not zero."""
    above, below = saved(node, "self"), saved(node, "other")
    if above is None or below is None or above.numel() != below.numel():
        return False
    if not MIN_NUMBERS <= above.numel() <= MAX_NUMBERS:
        return False
    with torch.no_grad():
        one, other = above.reshape(-1).abs(), below.reshape(-1).abs()
        return bool(((one - other).abs() <= NEAR_ONE * other).all()) and bool(one.any())
