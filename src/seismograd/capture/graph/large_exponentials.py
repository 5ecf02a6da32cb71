"""Find the exponential behind a loss that is finite and far too large."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from seismograd.capture.graph.traversal import LEAF, saved, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration import CapturedEvent
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind
from seismograd.tensors.isolation import without_user_modes

EXPONENTIALS = {"ExpBackward0": "exp", "Exp2Backward0": "exp2", "Expm1Backward0": "expm1"}
MIN_LOSS = 1e6
MIN_RESULT = 1e4
# a square of it is in the loss, as of a standard deviation, with a sum or a factor beside it
MAX_FACTOR = 1e4
MAX_LOOKS = 4  # losses, for each takes a walk through the graph
MAX_NODES = 20_000


class LargeExponentials:
    """Inspects the first losses that are very large, where the number is at hand."""

    def __init__(self, facts: Facts, parameter_table: ParameterTable) -> None:
        self._facts, self._parameter_table = facts, parameter_table
        self._num_looks = 0

    def look(self, captured: CapturedEvent, tops: list[Any]) -> None:
        """Inspect the loss of a backward that begins."""
        value, scale = captured.value, captured.scale
        if self._num_looks >= MAX_LOOKS or not value.known or value.tensor is not None:
            return
        loss = value.value
        if not MIN_LOSS <= abs(loss) < math.inf:
            return
        if scale is not None and (scale.tensor is not None or abs(loss) < MIN_LOSS * scale.value):
            return
        self._num_looks += 1
        with without_user_modes():
            found = max(_exponentials(tops), key=lambda each: each[0], default=None)
        if found is None or found[0] < MIN_RESULT or found[0] ** 2 * MAX_FACTOR < abs(loss):
            return
        largest, node = found
        self._facts.report(
            FactKind.LARGE_EXPONENTIAL,
            site=captured.site,
            parameters=self._weight_before(node),
            operation=EXPONENTIALS[node.name()],
            largest=largest,
            loss=loss,
        )

    def _weight_before(self, node: Any) -> tuple[str, ...]:
        """Return the name of the weight nearest to what goes into an operation."""
        table = self._parameter_table
        for below in _below([source(node)]):
            leaf = getattr(below, "variable", None) if below._sequence_nr() == LEAF else None
            if leaf is not None and leaf.ndim > 1 and leaf in table:
                return (table.parameters[table.column(leaf)].name,)
        return ()


def _exponentials(tops: list[Any]) -> Iterator[tuple[float, Any]]:
    """Yield the largest result of each exponential that is at hand."""
    for node in _below(tops):
        result = saved(node, "result") if node.name() in EXPONENTIALS else None
        if result is not None and result.numel() and result.layout is torch.strided:
            yield float(result.max()), node


def _below(tops: list[Any]) -> Iterator[Any]:
    """Yield the nodes of a graph, nearest first."""
    queue = deque(top for top in tops if top is not None)
    seen: set[Any] = set(queue)
    while queue and len(seen) < MAX_NODES:
        node = queue.popleft()
        yield node
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                queue.append(below)
