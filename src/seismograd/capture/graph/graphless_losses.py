"""Find losses without a graph that are backpropagated all the same, as leaves that require a
gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind


@dataclass(slots=True)
class GraphlessLosses:
    """Reports the first ones of each line of the script, and ever more rarely."""

    facts: Facts
    parameter_table: ParameterTable
    _times: dict[int, int] = field(default_factory=dict[int, int])

    def look(self, site: int, loss: Any) -> None:
        """Look at a loss that has no `grad_fn`."""
        if (
            not isinstance(loss, torch.Tensor)
            or not loss.requires_grad
            or isinstance(loss, torch.nn.Parameter)
            or loss in self.parameter_table
        ):
            return
        times = self._times[site] = self._times.get(site, 0) + 1
        if is_looked_at(times):
            self.facts.report(FactKind.LOSS_WITHOUT_GRAPH, site=site, times=times)
