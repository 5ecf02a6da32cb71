"""Notice that a loss or a gradient is not finite, find where its first such number arose, and
report that.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import torch

from seismograd.capture.birth.birth import FORWARD, Birth
from seismograd.capture.birth.graph_stage import birth_in_graph, weight_in_graph
from seismograd.capture.birth.source_line import line_of_operation
from seismograd.capture.birth.weight_origin import written_by
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import FactKind, Origin
from seismograd.tensors.isolation import without_user_modes

MAX_LOOKED_AT = 6  # non-finite losses, and gradients


class BirthObserver:
    """Looks at the first losses and gradients that are not finite."""

    def __init__(self, facts: Facts, log: EventLog, registry: OptimizerRegistry) -> None:
        self._facts, self._log, self._registry = facts, log, registry
        self._num_losses = 0

    def of_loss(self, top: Any) -> Origin:
        """Report where a non-finite loss came from whose graph ends in this node."""
        if self._num_losses >= MAX_LOOKED_AT:
            return Origin.UNKNOWN
        self._num_losses += 1
        weight = weight_in_graph(top)
        if weight is not None:
            birth = self._of_weight(weight)
        else:
            birth = self._placed(birth_in_graph(top), sys._getframe())  # pyright: ignore[reportPrivateUsage]
        if birth is None:
            return Origin.LOSS
        self._tell("loss", birth)
        return birth.origin

    def _of_weight(self, weight: torch.Tensor) -> Birth:
        table = self._registry.parameter_table
        column = table.column(weight) if weight in table else -1
        parameter = table.parameters[column] if column >= 0 else None
        index = None if parameter is None else parameter.optimizer
        window = next((w for w in self._registry if w.index == index), None)
        with without_user_modes():
            reason = written_by(weight, self._registry.optimizer_of(weight), window)
            bad = ~torch.isfinite(weight.detach())
        return Birth(
            "",
            reason,
            FORWARD,
            operand="" if parameter is None else parameter.name,
            shape=tuple(weight.shape),
            dtype=str(weight.dtype).removeprefix("torch."),
            num=int(bad.sum()),
            numel=weight.numel(),
        )

    def _placed(self, birth: Birth | None, frame: FrameType) -> Birth | None:
        """Add the line that the source shows."""
        if birth is None or birth.site >= 0 or not birth.operation:
            return birth
        line = line_of_operation(birth.operation, frame)
        if line is None:
            return birth
        site = self._log.call_sites.at(line.file, line.number, line.function)
        return replace(birth, site=site, text=line.text)

    def _tell(self, of: str, birth: Birth) -> None:
        named = birth.operand if birth.origin is Origin.WEIGHT else ""
        where = birth.site
        self._facts.tell_values(
            FactKind.BIRTH, {"of": of, **birth.values()}, where, (named,) if named else ()
        )
