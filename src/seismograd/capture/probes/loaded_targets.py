"""Note when a network that no optimizer trains is set to other weights, such as a target network:
what the loss is compared with has changed then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import FactKind

FIRST = 8  # loads that are all told


@dataclass(slots=True)
class LoadedTargets:
    """Hears `load_state_dict` of modules. What is loaded again and again at the same distance is
    told at the first times, when the distance changes, and ever more rarely.
    """

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    _times: int = 0
    _last: int = -1  # the iteration
    _every: int = -1

    def state_loads(self, _: ThreadState, owner: Any, __: object) -> None:
        """A module is about to be given weights."""
        if not isinstance(owner, torch.nn.Module):
            return
        table = self.registry.parameter_table
        is_training = any(each.optimizer is not None for each in table.parameters)
        if not is_training or any(map(table.owned, owner.parameters())):
            return
        now = self.facts.iteration
        if now == self._last or now == 0:
            return  # several networks at once, or before the training
        every = now - self._last if self._times else -1
        self._times += 1
        if self._times <= FIRST or every != self._every or is_looked_at(self._times):
            self.facts.report(
                FactKind.TARGET_LOADED,
                site=self.log.call_sites.here(OWN_FRAMES),
                every=every,
                times=self._times,
            )
        self._last, self._every = now, every
