"""Note where the gradients that the script hands to an optimizer, those of other parameters, hold
what an earlier step has used.
"""

from __future__ import annotations

from dataclasses import dataclass

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.handed_gradients import HandedGradients
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import FactKind

MAX_NAMES = 64


@dataclass(slots=True)
class GradientsOfOthers:
    """Looks at steps on gradients that no backward has added to at the optimizer's parameters."""

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry

    def step_begins(self, window: OptimizerWindow) -> None:
        """Such a step begins."""
        if window.handed is None:
            # what no optimizer holds is what the backward has reached
            window.handed = HandedGradients(self.registry.by_hand.held())
            return
        carried = window.handed.at_step(window.clearing.parameters)
        if carried is None:
            return
        window.clearing.carried = carried
        if is_looked_at(window.handed.times):
            self._report(window, window.handed)

    def _report(self, window: OptimizerWindow, handed: HandedGradients) -> None:
        table = self.registry.parameter_table
        lenders = [
            table.parameters[table.column(each)] for each in handed.lenders() if each in table
        ]
        models = {each.model for each in lenders}
        self.facts.report(
            FactKind.HANDED_GRADIENTS,
            site=self.log.call_sites.here(),
            optimizer=window.index,
            parameters=[each.name for each in lenders][:MAX_NAMES],
            times=handed.times,
            num=len(lenders),
            model=models.pop() if len(models) == 1 else "",
            name=window.name,
        )
