"""Look for the statement that cuts the graph, where parameters get no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch

from seismograd.capture.birth.source_line import code_below
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.source.cut_terms import cut_loss
from seismograd.capture.source.detaching_statement import detached
from seismograd.capture.source.statements import Statement
from seismograd.capture.source.straight_through import straight_through
from seismograd.schema import FactKind
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable
from seismograd.tensors.isolation import without_user_modes

LOOK = 2  # number of the step, from 0
MAX_SUMS = 16


@dataclass(slots=True)
class GraphCuts:
    """Reads the forward passes of the models once for each optimizer, if only some of what it holds
    has a gradient then; if nothing has, how the loss is made.
    """

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    _sums: dict[int, dict[int, float]] = field(default_factory=dict[int, dict[int, float]])

    def step_begins(self, _: ThreadState, optimizer: Any) -> None:
        """A step begins."""
        window = self.registry.known(optimizer)
        if window is None or window.num_steps not in (LOOK - 1, LOOK):
            return
        held = [parameter for parameter in window.held() if parameter.requires_grad]
        if window.num_steps < LOOK:
            self._sums[window.index] = _sums(held)
            return
        has_none = {parameter.grad is None for parameter in held}
        if has_none == {True}:
            found = self._cut_loss(window)
        elif len(has_none) == 2:
            if self._report_straight_through(window, held):
                return
            found = self._cut_in_forward()
        else:
            return
        if found is not None:
            self.facts.report(
                FactKind.DETACHED,
                site=self.log.call_sites.at(found.file, found.line, found.function),
                optimizer=window.index,
                text=found.text,
            )

    def _report_straight_through(
        self, window: OptimizerWindow, held: Sequence[torch.Tensor]
    ) -> bool:
        """Report a straight-through estimator that cuts off what has no gradient; what changes all
        the same is updated by hand, as a codebook by moving averages.
        """
        table = self.registry.parameter_table
        before, now = self._sums.pop(window.index, {}), _sums(held)
        same = {key for key, total in now.items() if before.get(key) == total}
        columns = [table.column(p) for p in held if id(p) in same and p in table]
        names = [table.parameters[column].name for column in columns if column >= 0]
        found = straight_through(
            self._forward_passes(), {part for name in names for part in name.split(".")}
        )
        if found is None:
            return False
        place = found.statement
        self.facts.report(
            FactKind.DETACHED,
            site=self.log.call_sites.at(place.file, place.line, place.function),
            optimizer=window.index,
            parameters=[name for name in names if found.part in name.split(".")],
            text=place.text,
            passes=found.passes,
            blocked=found.blocked,
        )
        return True

    def _cut_loss(self, window: OptimizerWindow) -> Statement | None:
        """Return the statement that takes the loss itself out of the graph."""
        if window.step_heard is None or window.step_heard.site < 0:
            return None
        site = self.log.call_sites.sites[window.step_heard.site]
        return cut_loss(site.file, site.line)

    def _cut_in_forward(self) -> Statement | None:
        return detached(self._forward_passes())

    def _forward_passes(self) -> set[CodeType]:
        """Return the code of the models' forward passes, where it is the script's."""
        sites = self.log.call_sites
        return {
            code
            for model, _ in self.registry.parameter_table.models()
            for code in code_below(model)
            if sites.is_of_script(code.co_filename)
        }


def _sums(held: Sequence[torch.Tensor]) -> dict[int, float]:
    """Return the sums of some parameters without a gradient, by their ids."""
    without = [p for p in held if p.grad is None and type(p) in PLAIN_TYPES and is_readable(p)]
    with without_user_modes():
        return {id(p): float(p.detach().double().sum()) for p in without[:MAX_SUMS]}
