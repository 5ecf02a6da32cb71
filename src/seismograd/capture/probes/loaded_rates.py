"""Detect learning rates and schedules that do not survive the loading of an optimizer's state."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from math import isclose, nan
from typing import Any, cast

import torch

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import groups_of, setting
from seismograd.capture.probes.scheduler_reading import unwrapped
from seismograd.schema import FactKind

MAX_OPTIMIZERS = 64
SAME = 1e-6


@dataclass(slots=True)
class Loaded:
    """The latest state that an optimizer was given, the rates of each of its groups."""

    optimizer: weakref.ref[Any]
    site: int
    given: list[float]  # before; NaN: not known
    loaded: list[float]
    initial: list[float]  # with which the scheduler of the saved run began
    has_stepped: bool = False


@dataclass(slots=True)
class LoadedRates:
    """Compares numbers that are at hand; rates in tensors are not read."""

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    loaded: dict[int, Loaded] = field(default_factory=dict[int, Loaded])

    def state_loads(self, _: ThreadState, owner: Any, state: object) -> None:
        """An optimizer is about to be given a saved state."""
        if not isinstance(owner, torch.optim.Optimizer) or not isinstance(state, dict):
            return
        saved = cast("dict[str, Any]", state).get("param_groups")
        groups = cast("list[Any]", saved if isinstance(saved, list) else [])
        if not all(isinstance(each, dict) for each in groups) or len(self.loaded) >= MAX_OPTIMIZERS:
            return
        given = [_rate(group, "lr") for group in groups_of(owner)]
        loaded = [_rate(group, "lr") for group in groups]
        # Its own state, as accelerate gives it back to move it to a device, is no checkpoint.
        if given != loaded:
            initial = [_rate(group, "initial_lr") for group in groups]
            site = self.log.call_sites.here(OWN_FRAMES)
            self.loaded[id(owner)] = Loaded(weakref.ref(owner), site, given, loaded, initial)

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Compare, at the first step after that, with the rates that there were before."""
        loaded = self.loaded.get(id(optimizer)) if self.loaded else None
        window = self.registry.known(optimizer)
        if loaded is None or loaded.has_stepped or loaded.optimizer() is not optimizer:
            return
        loaded.has_stepped = True
        now = [_rate(group, "lr") for group in groups_of(optimizer)]
        # fewer than all where groups were added: torch has refused a state of other groups
        for number, (given, saved, rate) in enumerate(
            zip(loaded.given, loaded.loaded, now, strict=False)
        ):
            if window is not None and rate == saved and _differ(given, saved):
                self.facts.report(
                    FactKind.RATE_LOADED,
                    site=loaded.site,
                    optimizer=window.index,
                    group=number,
                    name=window.name,
                    class_name=type(optimizer).__name__,
                    given=given,
                    loaded=saved,
                )
                return

    def scheduled(self, _: ThreadState, scheduler: Any, __: object) -> None:
        """Check, at the first step of a scheduler, whether it should have been the n-th."""
        known = cast("dict[str, Any]", vars(scheduler))
        if not self.loaded or known.get("last_epoch") != 1 or "patience" in known:
            return
        optimizer = unwrapped(known.get("optimizer"))
        loaded = self.loaded.get(id(optimizer))
        window = None if optimizer is None else self.registry.known(optimizer)
        # one that is stepped before the optimizer is being brought to where it was
        if loaded is None or window is None or not loaded.has_stepped:
            return
        del self.loaded[id(optimizer)]
        for initial, saved in zip(loaded.initial, loaded.loaded, strict=True):
            if _differ(initial, saved):
                self.facts.report(
                    FactKind.SCHEDULE_NOT_LOADED,
                    site=loaded.site,
                    optimizer=window.index,
                    scheduler=type(scheduler).__name__,
                    initial=initial,
                    loaded=saved,
                )
                return


def _rate(group: Any, name: str) -> float:
    value = setting(group, name)
    return float(value) if isinstance(value, int | float) else nan


def _differ(one: float, other: float) -> bool:
    """Return whether both are known and are not the same number."""
    return one == one and other == other and not isclose(one, other, rel_tol=SAME)
