"""Look for the statement that cuts the graph, where parameters get no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seismograd.capture.birth.source_line import code_below
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.source.cut_terms import cut_loss
from seismograd.capture.source.detaching_statement import detached
from seismograd.capture.source.statements import Statement
from seismograd.schema import FactKind

LOOK = 2  # number of the step, from 0


@dataclass(slots=True)
class GraphCuts:
    """Reads the forward passes of the models once for each optimizer, if only some of what it holds
    has a gradient then; if nothing has, how the loss is made.
    """

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry

    def step_begins(self, _: ThreadState, optimizer: Any) -> None:
        """A step begins."""
        window = self.registry.known(optimizer)
        if window is None or window.num_steps != LOOK:
            return
        held = [parameter for parameter in window.held() if parameter.requires_grad]
        has_none = {parameter.grad is None for parameter in held}
        if has_none == {True}:
            found = self._cut_loss(window)
        elif len(has_none) == 2:
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

    def _cut_loss(self, window: OptimizerWindow) -> Statement | None:
        """Return the statement that takes the loss itself out of the graph."""
        if window.step_heard is None or window.step_heard.site < 0:
            return None
        site = self.log.call_sites.sites[window.step_heard.site]
        return cut_loss(site.file, site.line)

    def _cut_in_forward(self) -> Statement | None:
        models = [model for model, _ in self.registry.parameter_table.models()]
        sites = self.log.call_sites
        return detached(
            {
                code
                for model in models
                for code in code_below(model)
                if sites.is_of_script(code.co_filename)
            }
        )
