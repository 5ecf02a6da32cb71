"""Report where the script creates each optimizer, so that its settings can be changed there."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_groups import groups_of, setting
from seismograd.capture.names.zero_optimizer import kind_of
from seismograd.capture.source.creations import optimizer_creation, rate_setter
from seismograd.schema import FactKind


@dataclass(slots=True)
class OptimizerCreations:
    """Reads the source of the script at the first step of each optimizer."""

    facts: Facts
    log: EventLog
    _reported: set[int] = field(default_factory=set[int])

    def step_begins(self, window: OptimizerWindow, optimizer: Any) -> None:
        """Report an optimizer that steps for the first time."""
        if (
            window.index in self._reported
            or window.step_heard is None
            or window.step_heard.site < 0
        ):
            return
        self._reported.add(window.index)
        if not self.facts.has_room(FactKind.OPTIMIZER_CREATED):
            return
        site = window.step_heard.site
        place = self.log.call_sites.sites[site]
        file = place.file
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        files = [file, main] if isinstance(main, str) else [file]
        made = optimizer_creation(files, kind_of(optimizer), window.name, place.function)
        setter = rate_setter(file, place.function)
        self.facts.report(
            FactKind.OPTIMIZER_CREATED,
            site=site,
            optimizer=window.index,
            class_name=kind_of(optimizer),
            lr=_rate(optimizer),
            place="" if made is None else made.statement.place,
            text="" if made is None else made.statement.text,
            call="" if made is None else made.call,
            argument="" if made is None else made.argument,
            setter="" if setter is None else setter.text,
            set_at="" if setter is None else setter.place,
        )


def _rate(optimizer: Any) -> float:
    """Return the learning rate that the first group began with; NaN where it is no plain number."""
    groups = groups_of(optimizer)
    for key in ("initial_lr", "lr"):
        rate = setting(groups[0], key) if groups else None
        if isinstance(rate, int | float):
            return float(rate)
    return math.nan
