"""Find losses that only push the output of a network up, or down, as that of a generator or of an
actor does with the output of the network that judges it: nobody could train that one with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import LossGraph, is_leaf
from seismograd.capture.graph.traversal import SAME_VALUES, saved, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind

MAX_TARGETS = 1 << 16  # that are compared
LAYERS = frozenset({"AddmmBackward0", "ConvolutionBackward0"})
MONOTONE = SAME_VALUES | {  # where what comes in grows, what comes out grows, or falls
    "AddBackward0",
    "AliasBackward0",
    "LogBackward0",
    "LogSigmoidBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "MinBackward1",
    "MinimumBackward0",
    "NegBackward0",
    "ReluBackward0",
    "RsubBackward1",
    "SelectBackward0",
    "SigmoidBackward0",
    "SliceBackward0",
    "SoftplusBackward0",
    "SqueezeBackward0",
    "SubBackward0",
    "SumBackward0",
    "SumBackward1",
}
SCALING = frozenset({"DivBackward0", "MulBackward0"})
WITH_TARGETS = frozenset({"BinaryCrossEntropyBackward0", "BinaryCrossEntropyWithLogitsBackward0"})


@dataclass(slots=True)
class JudgedOutputs:
    """Inspects the graphs of the losses that it is given; reports each line once for each optimizer
    of a network that judges.
    """

    facts: Facts
    parameter_table: ParameterTable
    _reported: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        if len(windows) < 2:
            return
        for bias in pushed(graph):
            if bias not in self.parameter_table:
                continue
            parameter = self.parameter_table.parameters[self.parameter_table.column(bias)]
            judge = parameter.optimizer
            if judge is None or (site, judge) in self._reported:
                continue
            self._reported.add((site, judge))
            self.facts.report(
                FactKind.JUDGED_OUTPUT, site=site, optimizer=judge, parameters=[parameter.name]
            )


def pushed(graph: LossGraph) -> Iterator[torch.Tensor]:
    """Yield the biases of last layers that are in a loss once, and only by operations that never
    turn: the loss falls for ever as one of them grows, or as it falls.
    """
    stack, seen = list(graph.tops), set(graph.tops)
    while stack:
        node = stack.pop()
        if node.name() in LAYERS:
            bias = source(node, 0 if node.name() == "AddmmBackward0" else 2)
            if bias is not None and is_leaf(bias) and graph.readers[bias] == [node]:
                above = graph.reaching({node}) - {node}
                if all(map(_never_turns, above)):
                    yield bias.variable
            continue
        if not _never_turns(node):
            continue
        for below, _ in node.next_functions:
            if below is not None and below not in seen and not is_leaf(below):
                seen.add(below)
                stack.append(below)


def _never_turns(node: Any) -> bool:
    """Return whether an operation only grows, or only falls, with what is computed."""
    name: str = node.name()
    if name in MONOTONE:
        return True
    if name in SCALING:
        position = 1 if source(node) is None else 0
        number = saved(node, "self" if position else "other")
        return (
            number is not None and number.numel() == 1 and (name != "DivBackward0" or not position)
        )
    if name in WITH_TARGETS:
        target = saved(node, "target")
        return (
            target is not None
            and 0 < target.numel() <= MAX_TARGETS
            and target.device.type == "cpu"
            and bool((target == target.reshape(-1)[0]).all())
            and float(target.reshape(-1)[0]) in (0.0, 1.0)
        )
    return False
