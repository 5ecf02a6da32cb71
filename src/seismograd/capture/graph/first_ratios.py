"""Find clipped ratios of a policy with the one that has acted that are not one before any step:
then both are not of the same actions, or not of the same policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.loss_graph import LossGraph, leaves_behind
from seismograd.capture.graph.self_ratios import MAX_NUMBERS, difference_in
from seismograd.capture.graph.traversal import saved, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.policy_ratios import policy_ratio
from seismograd.schema import FactKind, Site

MAX_NAMES = 64
MIN_NUMBERS = 8
# what other kernels and sizes of a batch make of it is a hundred times less
TOLERANCE = 1e-3
FAR = 3.0  # no clip of a ratio goes so far
# numbers that are coarser differ by more
PRECISE = frozenset({torch.float32, torch.float64})


class ClippedRatio(NamedTuple):
    """A ratio that is clipped around one: the share of its numbers that are not one, and the least
    and the largest of them.
    """

    node: Any
    share: float
    least: float
    most: float


@dataclass(slots=True)
class FirstRatios:
    """Inspects the first graph of each line of the script, before any step."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _seen: set[int] = field(default_factory=set[int])  # lines

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        if site in self._seen:
            return
        self._seen.add(site)
        if any(window.num_steps for window in windows):
            return
        table = self.parameter_table
        for found in clipped_ratios(graph):
            columns = set(table.columns(leaves_behind({found.node})))
            shown = None if site < 0 else policy_ratio(self.sites[site].file)
            for window in windows:
                names = [each.name for each in table.updated_by(window.index, columns)]
                if names:
                    self.facts.report(
                        FactKind.FIRST_RATIO,
                        site=site,
                        optimizer=window.index,
                        parameters=names[:MAX_NAMES],
                        num=len(names),
                        share=found.share,
                        least=found.least,
                        most=found.most,
                        place="" if shown is None else shown.place,
                        text="" if shown is None else shown.text,
                    )
            return


def clipped_ratios(graph: LossGraph) -> Iterator[ClippedRatio]:
    """Yield the exponentials of a difference from a constant that are clipped around one."""
    for node in graph.nodes:
        if not _is_of_a_constant(node):
            continue
        if not any(_is_around_one(reader) for reader, _ in graph.readers_of_values(node)):
            continue
        ratio = saved(node, "result")
        if ratio is None or ratio.dtype not in PRECISE:
            continue
        if not MIN_NUMBERS <= ratio.numel() <= MAX_NUMBERS or not bool(ratio.isfinite().all()):
            continue
        share = float(((ratio - 1).abs() > TOLERANCE).float().mean())
        yield ClippedRatio(node, share, float(ratio.min()), float(ratio.max()))


def _is_of_a_constant(node: Any) -> bool:
    """Return whether it is an exponential of what has a graph, less what has none."""
    difference = difference_in(node)
    if difference is None:
        return False
    return source(difference) is not None and source(difference, 1) is None


def _is_around_one(node: Any) -> bool:
    low, high = getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)
    if not isinstance(low, float) or not isinstance(high, float):
        return False
    return node.name() == "ClampBackward1" and 0 < low < 1 < high < FAR
