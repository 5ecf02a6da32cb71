"""Measure the script's own gradient hooks that multiply every gradient by one number: the norms
before and after them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.traversal import LEAF, MAX_NODES
from seismograd.capture.loop.clearing_tracker import is_zero
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.schema import FactKind

SAME = 0.001  # how far the factors of several parameters may differ
MAX_PARAMETERS = 64


@dataclass(slots=True)
class _Measured:
    """One parameter with hooks, the norms of the gradients it received, and the undo."""

    parameter: torch.Tensor
    window: OptimizerWindow
    norms: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    stop: Callable[[], None] = lambda: None


class Hooks:
    """Observes a backward at the nodes in front of the parameters with hooks; does nothing where
    there are none.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._running: list[_Measured] = []

    def backward_begins(self, tops: list[Any], windows: Sequence[OptimizerWindow]) -> None:
        """Install the hooks for a backward that begins and may concern these windows."""
        self._stop()
        hooked: dict[int, _Measured] = {}
        for window in windows:
            held = [each for each in window.held() if each.requires_grad]
            if held and all(each._backward_hooks for each in held):
                for parameter in held[:MAX_PARAMETERS]:
                    if is_zero(parameter):
                        hooked[id(parameter)] = _Measured(parameter, window)
        if not hooked:
            return
        for key, edges in _edges_to(tops, hooked).items():
            if len(edges) == 1:  # of several the sum would be needed
                measured, (node, position) = hooked[key], edges[0]
                handle = node.register_hook(_listener(measured.norms, position))
                measured.stop = handle.remove
                self._running.append(measured)

    def backward_ends(self, site: int) -> None:
        """Report for each optimizer the factor by which the hooks on its parameters have multiplied
        their gradients, if it is one number.
        """
        running = self._running
        self._stop()
        factors: dict[int, list[float]] = {}
        for each in running:
            grad = each.parameter.grad
            if grad is not None and len(each.norms) == 1 and float(each.norms[0]) > 0:
                factors.setdefault(each.window.index, []).append(
                    float(_norm(grad)) / float(each.norms[0])
                )
        for optimizer, found in factors.items():
            least, most = min(found), max(found)
            if least > 0 and math.isfinite(most) and most <= least * (1 + SAME):
                self._facts.report(
                    FactKind.HOOK_FACTOR,
                    site=site,
                    optimizer=optimizer,
                    factor=found[0],
                    num=len(found),
                )

    def _stop(self) -> None:
        running, self._running = self._running, []
        for each in running:
            each.stop()


def _listener(norms: list[torch.Tensor], position: int) -> Callable[[Any, Any], None]:
    def listen(gradients: Any, _: Any) -> None:
        gradient = gradients[position] if position < len(gradients) else None
        if isinstance(gradient, torch.Tensor):
            norms.append(_norm(gradient))

    return listen


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return gradient.detach().double().square().sum().sqrt()


def _edges_to(tops: list[Any], wanted: dict[int, _Measured]) -> dict[int, list[tuple[Any, int]]]:
    """Return the nodes that pass gradients to these leaves, and the index of each output."""
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    edges: dict[int, list[tuple[Any, int]]] = {}
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        for position, (below, _) in enumerate(node.next_functions):
            if below is None:
                continue
            if below._sequence_nr() == LEAF:
                leaf = getattr(below, "variable", None)
                if leaf is not None and id(leaf) in wanted:
                    edges.setdefault(id(leaf), []).append((node, position))
            elif below not in seen:
                seen.add(below)
                stack.append(below)
    return edges
