"""Find vectors of a codebook that a loss goes through in place of what chose them: a vector
quantization without a straight-through estimator.

The nearest vector is looked up by an index, which has no gradient, so what chose it gets none of
what is computed from the vector, unless `z + (q - z).detach()` passes it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import LossGraph, below_views, is_leaf, leaves_behind
from seismograd.capture.graph.regressions import REGRESSIONS
from seismograd.capture.graph.traversal import LOOK_UPS, SAME_VALUES, saved, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.quantizing import quantizing
from seismograd.schema import FactKind, Site

MAX_NUMBERS = 1 << 22  # in a difference that is read
PASSING = SAME_VALUES | {"SqueezeBackward0"}
DIFFERENCES = frozenset({"PowBackward0", "MulBackward0", "AbsBackward0"})


@dataclass(frozen=True, slots=True)
class Compared:
    """A regression of what `node` gave against something without a graph: the sizes of the
    differences.
    """

    regression: Any
    node: Any
    sizes: torch.Tensor


@dataclass(slots=True)
class QuantizedCuts:
    """Inspects the graphs of the losses that it is given; reports each line once."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _reported: set[int] = field(default_factory=set[int])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        cut_off = [] if site in self._reported else self._cut_off(graph)
        columns = sorted(column for column in self.parameter_table.columns(cut_off) if column >= 0)
        if not columns:
            return
        self._reported.add(site)
        statement = None if site < 0 else quantizing(self.sites[site].file)
        self.facts.report(
            FactKind.QUANTIZED_CUT,
            site=site,
            parameters=[self.parameter_table.parameters[column].name for column in columns],
            place="" if statement is None else statement.place,
            text="" if statement is None else statement.text,
        )

    def _cut_off(self, graph: LossGraph) -> list[torch.Tensor]:
        """Return the leaves that chose vectors through which a loss goes, and that it does not
        reach itself.
        """
        look_ups = [node for node in graph.nodes if _is_of_codebook(node)]
        compared = list(_compared(graph)) if look_ups else []
        for look_up in look_ups:
            own = [each for each in compared if each.node is look_up]
            # the other half: what chose the vector is compared with it, by the same differences
            chosen_by = {
                other.node
                for each in own
                for other in compared
                if other.node is not look_up and _is_same(each.sizes, other.sizes)
            }
            uses = [
                reader
                for reader, _ in graph.readers_of_values(look_up, PASSING)
                if not _compares(graph, reader, {each.regression for each in own})
            ]
            if chosen_by and uses:
                terms = graph.terms() & graph.reaching(set(uses))
                if terms and terms.isdisjoint(graph.reaching(chosen_by)):
                    reached = {id(leaf) for leaf in leaves_behind(terms)}
                    behind = leaves_behind(chosen_by)
                    return [leaf for leaf in behind if id(leaf) not in reached]
        return []


def _is_of_codebook(node: Any) -> bool:
    """Return whether this looks up rows of a leaf, as of the weight of an embedding, by indices or
    by a product with a mask.
    """
    name: str = node.name()
    is_masked = name == "MmBackward0" and source(node) is None
    below = below_views(source(node, int(is_masked)))
    return (is_masked or name in LOOK_UPS) and below is not None and is_leaf(below)


def _compared(graph: LossGraph) -> Iterator[Compared]:
    """Yield the regressions of which one side has a graph, with what gave that side."""
    for node in graph.nodes:
        name: str = node.name()
        regression = difference = node
        if name in DIFFERENCES:
            difference = below_views(source(node))
            if difference is None or difference.name() != "SubBackward0":
                continue
            sizes = saved(node, "self")
        elif name in REGRESSIONS:
            one, other = saved(node, "self"), saved(node, "target")
            if one is None or other is None or one.shape != other.shape:
                continue
            sizes = one - other if one.numel() <= MAX_NUMBERS else None
        else:
            continue
        live = [below for below, _ in difference.next_functions if below is not None]
        if len(live) == 1 and sizes is not None and 0 < sizes.numel() <= MAX_NUMBERS:
            yield Compared(regression, below_views(live[0], PASSING), sizes.detach().abs())


def _compares(graph: LossGraph, reader: Any, regressions: set[Any]) -> bool:
    """Return whether a reader is one of these regressions, or the difference in one of them."""
    return reader in regressions or any(
        after in regressions for after, _ in graph.readers_of_values(reader)
    )


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether these are the same numbers, perhaps in another layout: sorted, they are."""
    if one.numel() != other.numel() or one.device != other.device:
        return False
    if one.shape == other.shape:
        return bool(one.equal(other))
    return bool(one.flatten().sort().values.equal(other.flatten().sort().values))
