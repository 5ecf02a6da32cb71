"""Look for layers whose units are all the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import FactKind
from seismograd.tensors.isolation import without_user_modes

LOOKS = (2, 8)  # numbers of the step, from 0: what differs at first may come from the data
# steps of an optimizer after which its settings and weights are looked at in sampled ones only
LAST_EARLY_LOOK = max(LOOKS)
MAX_LOOKED_AT = 64  # weights
MIN_ROWS = 3


@dataclass(slots=True)
class Symmetry:
    """Inspects the weights at two steps of each optimizer, before they change anything."""

    facts: Facts
    registry: OptimizerRegistry
    _reported: set[int] = field(default_factory=set[int])

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Look at weights and gradients, where it is time."""
        window = self.registry.known(optimizer)
        if window is None or window.num_steps not in LOOKS:
            return
        if window.num_steps != LOOKS[0] and window.index not in self._reported:
            return
        table = self.registry.parameter_table
        weights = [p for p in window.held() if p.ndim > 1 and p.shape[0] >= MIN_ROWS]
        with without_user_modes():
            alike = [p for p in weights[:MAX_LOOKED_AT] if p in table and _is_alike(p)]
            equal = [p for p in weights[:MAX_LOOKED_AT] if alike and p in table and _is_equal(p)]
        if alike:
            self._reported.add(window.index)
            self.facts.report(
                FactKind.SYMMETRIC,
                site=-1 if window.step_heard is None else window.step_heard.site,
                optimizer=window.index,
                parameters=[table.parameters[table.column(p)].name for p in alike],
                rows=alike[0].shape[0],
                equal=",".join(table.parameters[table.column(p)].name for p in equal),
                model=table.parameters[table.column(alike[0])].model,
            )


def _is_alike(weight: torch.Tensor) -> bool:
    """Return whether all its rows are equal, and those of its gradient, which is not zero."""
    grad = weight.grad
    if type(grad) is not torch.Tensor or grad.layout != torch.strided or weight.is_complex():
        return False
    return (
        bool((grad[1] == grad[0]).all())  # most end here
        and bool((grad == grad[:1]).all())
        and bool(grad[0].any())
        and _is_equal(weight)
    )


def _is_equal(weight: torch.Tensor) -> bool:
    return bool((weight == weight[:1]).all())
