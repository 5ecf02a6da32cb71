"""Find losses that compare a policy with a reference that is the policy itself: the difference of
their log-probabilities, one with a graph and one without, is exactly zero at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import SCALING, SUMMING, LossGraph
from seismograd.capture.graph.traversal import saved, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.reference_statements import reference_statement
from seismograd.schema import FactKind, Site

MIN_NUMBERS, MAX_NUMBERS = 2, 1 << 22  # of an input that is read
MAX_NODES = 64  # between the function and the differences
# what preferences are compared by; not the exponential, whose ratio is one in a policy gradient
COMPARING = {
    "BinaryCrossEntropyWithLogitsBackward0": "binary_cross_entropy_with_logits",
    "LogSigmoidBackward0": "logsigmoid",
    "SoftplusBackward0": "softplus",
}
SUBTRACTING = frozenset({"AddBackward0", "RsubBackward1", "SubBackward0"})


@dataclass(slots=True)
class ZeroSighting:
    """How often a line's difference was zero, each time after other steps: the numbers of
    `steps`.
    """

    times: int = 0
    steps: tuple[int, ...] = ()
    is_refuted: bool = False


@dataclass(slots=True)
class SelfReferences:
    """Inspects the graphs of the losses that it is given, until one at the same line has no such
    difference, or one that is not zero, as it is once the policy has moved.
    """

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _seen: dict[int, ZeroSighting] = field(default_factory=dict[int, ZeroSighting])

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        seen = self._seen.setdefault(site, ZeroSighting())
        if seen.is_refuted:
            return
        operation = zero_difference(graph)
        seen.is_refuted = not operation
        steps = tuple(window.num_steps for window in windows)
        if seen.is_refuted or steps == seen.steps:
            return
        seen.times, seen.steps = seen.times + 1, steps
        shown = None
        if site >= 0:
            shown = reference_statement(self.sites[site].file, self.sites[site].line)
        self.facts.report(
            FactKind.SELF_REFERENCE,
            site=site,
            operation=operation,
            times=seen.times,
            adapted=self._adapted(),
            place="" if shown is None else shown.place,
            text="" if shown is None else shown.text,
        )

    def _adapted(self) -> str:
        """Return the script's name of a model whose adapters can be disabled, if there is one."""
        for model, _ in self.parameter_table.models():
            for module in model.modules():
                if callable(getattr(type(module), "disable_adapter", None)):
                    # what is adapted may have had another name before
                    first = next((p for p in module.parameters() if p.requires_grad), None)
                    table = self.parameter_table
                    if first is None or first not in table:
                        return "model"
                    return table.parameters[table.column(first)].model or "model"
        return ""


def zero_difference(graph: LossGraph) -> str:
    """Return the function that is given differences of a computed value and one without a graph,
    all of which are zero; empty where there is none, or one that is not.
    """
    found = ""
    for node in graph.nodes:
        operation = COMPARING.get(node.name(), "")
        if not operation or not _is_of_differences(source(node)):
            continue
        given = saved(node, "self")
        if given is None or not MIN_NUMBERS <= given.numel() <= MAX_NUMBERS:
            return ""
        with torch.no_grad():
            if bool(given.any()):
                return ""
        found = operation
    return found


def _is_of_differences(node: Any) -> bool:
    """Return whether a value is a sum of differences, multiplied by numbers at most, one of which
    has a side without a graph.
    """
    stack, num = [node], 0
    while stack and num < MAX_NODES:
        each = stack.pop()
        num += 1
        name: str = "" if each is None else each.name()
        live = [] if each is None else [b for b, _ in each.next_functions if b is not None]
        if name in SUBTRACTING and len(live) == 1:
            return True
        if name in SUMMING or (name in SCALING and len(live) == 1):
            stack.extend(live)
    return False
