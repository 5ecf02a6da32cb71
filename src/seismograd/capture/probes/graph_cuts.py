"""Look for the statement that cuts the graph, where parameters get no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seismograd.capture.birth.source_line import code_below
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.source.detaching_statement import detached
from seismograd.schema import FactKind

LOOK = 2  # number of the step, from 0


@dataclass(slots=True)
class GraphCuts:
    """Reads the forward passes of the models once for each optimizer, if only some of what it holds
    has a gradient then.
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
        if len({parameter.grad is None for parameter in held}) < 2:
            return
        models = [model for model, _ in self.registry.parameter_table.models()]
        sites = self.log.call_sites
        found = detached(
            {
                code
                for model in models
                for code in code_below(model)
                if sites.is_of_script(code.co_filename)
            }
        )
        if found is not None:
            self.facts.report(
                FactKind.DETACHED,
                site=sites.at(found.file, found.line, found.function),
                optimizer=window.index,
                text=found.text,
            )
