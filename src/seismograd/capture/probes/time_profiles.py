"""Measure how the gradient changes on its way back through time, where a recurrence is unrolled: a
weight whose product at each step depends on that of the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from seismograd.capture.graph.products import products_of
from seismograd.capture.graph.traversal import LEAF, MAX_NODES
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import LOOKS
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind, FloatArray
from seismograd.tensors.isolation import without_user_modes

MIN_STEPS = 8  # of the recurrence
MAX_WEIGHTS = 8
MAX_DISTANCE = 512  # nodes between two steps
EVERY, LAST = 5, 60  # backwards that are looked at where there is a recurrence


@dataclass(slots=True)
class _Recurrence:
    """A weight, its products in the order of time, and the norm of the gradient that reached each
    of them.
    """

    weight: torch.Tensor
    norms: list[torch.Tensor | None]
    undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])


class TimeProfiles:
    """Observes a few backwards of each program, by hooks on nodes that return nothing."""

    def __init__(self, facts: Facts, parameter_table: ParameterTable) -> None:
        self._facts, self._parameter_table = facts, parameter_table
        self.running: list[_Recurrence] = []
        self.is_recurrent = False

    def may_look(self, number: int) -> bool:
        """Return whether this backward, from 1, is looked at, or one before it has not ended."""
        return number in LOOKS or bool(self.running) or (self.is_recurrent and number <= LAST)

    def backward_begins(self, number: int, tops: list[Any]) -> None:
        """Install the hooks, where this backward, from 1, is looked at."""
        self._stop()
        often = self.is_recurrent and number <= LAST and number % EVERY == 0
        if not often and number not in LOOKS:
            return
        for weight, products in _recurrences(tops):
            if len(self.running) < MAX_WEIGHTS and weight in self._parameter_table:
                found = _Recurrence(weight, [None] * len(products))
                for position, node in enumerate(products):
                    found.undo.append(node.register_hook(_listener(found.norms, position)).remove)
                self.running.append(found)
                self.is_recurrent = True

    def backward_ends(self, site: int) -> None:
        """Report what was measured."""
        running = self.running
        self._stop()
        for each in running:
            if any(norm is None for norm in each.norms):
                continue
            known = torch.stack([norm for norm in each.norms if norm is not None])
            norms: FloatArray = np.array(known.tolist(), np.float64)
            if not np.isfinite(norms).all() or not norms.any():
                continue
            parameter = self._parameter_table.parameters[self._parameter_table.column(each.weight)]
            gain, total, goodness = _line(norms)
            self._facts.report(
                FactKind.THROUGH_TIME,
                site=site,
                optimizer=-1 if parameter.optimizer is None else parameter.optimizer,
                parameters=(parameter.name,),
                steps=len(norms),
                first=float(norms[0]),
                last=float(norms[-1]),
                gain=gain,
                total=total,
                goodness=goodness,
            )

    def _stop(self) -> None:
        running, self.running = self.running, []
        for each in running:
            for undo in each.undo:
                undo()


def _listener(norms: list[torch.Tensor | None], position: int) -> Callable[[Any, Any], None]:
    def listen(_: Any, gradients: Any) -> None:
        if gradients and isinstance(gradients[0], torch.Tensor):
            with without_user_modes():
                norms[position] = gradients[0].detach().double().square().sum().sqrt()

    return listen


def _line(norms: FloatArray) -> tuple[float, float, float]:
    """Return by how much each step multiplies the gradient on its way back, and all of them, by a
    line through the logarithms of what is not zero; and its R².
    """
    at = np.flatnonzero(norms > 0)
    if len(at) < MIN_STEPS:
        return 1.0, 1.0, 0.0
    height, at = np.log10(norms[at]), at - at.mean()
    slope = float((at * height).sum() / (at * at).sum())
    spread = height - height.mean()
    rest = spread - slope * at
    goodness = 1 - float((rest * rest).sum()) / max(float((spread * spread).sum()), 1e-300)
    total = np.clip(-slope * (len(norms) - 1), -300, 300)
    return float(10 ** np.clip(-slope, -300, 300)), float(10**total), max(goodness, 0.0)


def _recurrences(tops: list[Any]) -> list[tuple[torch.Tensor, list[Any]]]:
    """Return the weights that are used again and again, each time after the time before, with the
    nodes of their products.
    """
    read_by: dict[Any, list[Any]] = {}
    leaves: list[Any] = []
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        for below, _ in node.next_functions:
            if below is None:
                continue
            read_by.setdefault(below, []).append(node)
            if below not in seen:
                seen.add(below)
                if below._sequence_nr() == LEAF:
                    leaves.append(below)
                else:
                    stack.append(below)
    found: list[tuple[torch.Tensor, list[Any]]] = []
    for leaf in leaves:
        weight = getattr(leaf, "variable", None)
        if weight is None or weight.ndim < 2:
            continue
        products = products_of(leaf, read_by)
        if len(products) >= MIN_STEPS and all(
            _depends(products[at], products[at - 1])
            for at in (1, len(products) // 2, len(products) - 1)
        ):
            found.append((weight, products))
    return found


def _depends(later: Any, earlier: Any) -> bool:
    """Return whether the later of two operations depends on the earlier one."""
    first = earlier._sequence_nr()
    stack, seen = [later], {later}
    while stack and len(seen) < MAX_DISTANCE:
        for below, _ in stack.pop().next_functions:
            if below is earlier or below == earlier:
                return True
            if below is None or below in seen:
                continue
            if first < below._sequence_nr() < LEAF:
                seen.add(below)
                stack.append(below)
    return False
