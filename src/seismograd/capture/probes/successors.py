"""Detect optimizers and scalers that are made again and again, and tensors that two optimizers step
on.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import groups_of, parameters_below, setting
from seismograd.capture.source.statements import creation
from seismograd.schema import FactKind, StepFlag

MAX_NAMES = 64
MAX_COMPARED = 16  # optimizers; those for one parameter each have nothing in common
SKIPPED, GUARDED = int(StepFlag.SKIPPED), int(StepFlag.GUARDED)


@dataclass(slots=True)
class Common:
    """The tensors that two optimizers both hold, by the first of them."""

    windows: tuple[OptimizerWindow, OptimizerWindow]
    tensor: weakref.ref[Any]
    names: tuple[str, ...]
    # the gradient on which the last of them has stepped: a reference, because the next one may get
    # its id when it is gone
    used: weakref.ref[Any] | None = None
    version: int = 0
    by: OptimizerWindow | None = None
    times: int = 0
    is_nested: bool = False  # the step of one makes that of the other

    def keep(self, window: OptimizerWindow) -> None:
        """Note the gradient on which this one has stepped."""
        grad, self.by = self._grad(), window
        self.used = None if grad is None else weakref.ref(grad)
        self.version = 0 if grad is None else grad._version

    def is_used(self) -> bool:
        """Return whether the gradient is still that one."""
        grad = self._grad()
        if grad is None or self.used is None:
            return False
        return self.used() is grad and grad._version == self.version

    def _grad(self) -> Any:
        tensor = self.tensor()
        return None if tensor is None else tensor.grad


@dataclass(slots=True)
class Successors:
    """Inspects optimizers when a step begins; reads numbers only."""

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    _num_made: dict[int, int] = field(default_factory=dict[int, int])
    # windows whose weights were loaded since their last step: a new optimizer begins another
    # training then, which is no successor; and how often that was so
    loaded: set[int] = field(default_factory=set[int])
    _num_trainings: Counter[int] = field(default_factory=Counter[int])
    compared: tuple[OptimizerWindow, ...] = ()
    common: list[Common] = field(default_factory=list[Common])

    def has_news(self, windows: tuple[OptimizerWindow, ...]) -> bool:
        """Return whether a step may be one to look at, even of an optimizer that is the first in
        its place.
        """
        return bool(self.common or self.loaded) or windows is not self.compared

    def state_loads(self, _: ThreadState, owner: Any, __: object) -> None:
        """A module is about to be given saved weights."""
        if isinstance(owner, torch.nn.Module):
            ids = {id(p) for p in parameters_below(owner)}
            held = [w.index for w in self.registry.windows if any(id(p) in ids for p in w.held())]
            self.loaded.update(held)

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Check whether this optimizer is a new one in an old place, and what it steps on."""
        window = self.registry.known(optimizer)
        if window is None:
            return
        if window.num_made > self._num_made.get(window.index, 1):
            self._num_made[window.index] = window.num_made
            if window.index in self.loaded:
                self._num_trainings[window.index] += 1
            else:
                self._tell_remade(window, optimizer)
        self.loaded.discard(window.index)
        if self.registry.windows is not self.compared:
            self._compare()
        for common in self.common:
            if window in common.windows:
                self._look(common, window)

    def _tell_remade(self, window: OptimizerWindow, optimizer: Any) -> None:
        made = window.num_made - self._num_trainings[window.index]
        if is_looked_at(made):
            site = _site(window)
            place, text = _creation(self.log, site, type(optimizer).__name__)
            self.facts.report(
                FactKind.OPTIMIZER_REMADE,
                site=site,
                optimizer=window.index,
                name=window.name,
                class_name=type(optimizer).__name__,
                made=made,
                life=window.num_steps / (window.num_made - 1),
                remembers=int(remembers(optimizer)),
                place=place,
                text=text,
            )

    def step_ends(self, _: ThreadState, optimizer: Any) -> None:
        """Note what it has stepped on."""
        if self.common:
            window = self.registry.known(optimizer)
            for common in self.common:
                if window in common.windows:
                    common.keep(window)

    def _compare(self) -> None:
        """Find the optimizers that hold the same tensors."""
        self.compared = windows = self.registry.windows
        known = {frozenset(each.index for each in c.windows): c for c in self.common}
        self.common = []
        if not 1 < len(windows) <= MAX_COMPARED:
            return
        table = self.registry.parameter_table
        held = [(window, window.held()) for window in windows]
        for number, (first, ours) in enumerate(held):
            ids = {id(p) for p in ours}
            for second, theirs in held[number + 1 :]:
                both = [p for p in theirs if id(p) in ids and p.requires_grad]
                if both:
                    names = [table.parameters[table.column(p)].name for p in both if p in table]
                    self.common.append(
                        known.get(frozenset((first.index, second.index)))
                        or Common((first, second), weakref.ref(both[0]), tuple(names))
                    )

    def _look(self, common: Common, window: OptimizerWindow) -> None:
        if any(each.stepping for each in common.windows if each is not window):
            common.is_nested = True
        by = common.by
        if common.is_nested or by is None or by is window or not common.is_used():
            return
        common.times += 1
        if is_looked_at(common.times):
            self.facts.report(
                FactKind.IN_TWO_OPTIMIZERS,
                site=_site(window),
                optimizer=window.index,
                parameters=common.names[:MAX_NAMES],
                first=by.name,
                second=window.name,
                num=len(common.names),
                times=common.times,
            )


@dataclass(slots=True)
class Scalers:
    """Follows GradScalers that are used one after another."""

    facts: Facts
    log: EventLog
    _seen: list[weakref.ref[Any]] = field(default_factory=list[weakref.ref[Any]])
    _made: int = 0
    _steps: int = 0
    _skipped: int = 0
    _is_in_turn: bool = False  # several are used in turn, as one for each of two models

    def scaled(self, _: ThreadState, scaler: Any) -> None:
        """Check whether this one is new."""
        if self._is_in_turn or not scaler.is_enabled():
            return
        if self._seen and self._seen[-1]() is scaler:
            return
        self._seen = [each for each in self._seen if each() is not None]
        if any(each() is scaler for each in self._seen):
            self._is_in_turn = True
            return
        self._seen.append(weakref.ref(scaler))
        self._made += 1
        if self._made > 1 and is_looked_at(self._made):
            site = self.log.call_sites.here()
            place, text = _creation(self.log, site, type(scaler).__name__)
            self.facts.report(
                FactKind.SCALER_REMADE,
                site=site,
                made=self._made,
                steps=self._steps,
                skipped=self._skipped,
                scale=float(scaler._init_scale),
                place=place,
                text=text,
            )

    def scaler_step_ends(self, thread_state: ThreadState, scaler: Any, _: Any) -> None:
        """Check whether it skipped the step."""
        steps = thread_state.iteration.steps
        if scaler.is_enabled() and steps:
            self._steps += 1
            self._skipped += int(steps[-1].flags) & (SKIPPED | GUARDED) == SKIPPED


def remembers(optimizer: Any) -> bool:
    """Return whether it keeps anything from step to step."""
    return type(optimizer).__name__ != "SGD" or any(
        setting(group, "momentum") for group in groups_of(optimizer)
    )


def _creation(log: EventLog, site: int, class_name: str) -> tuple[str, str]:
    """Return the line of the script that creates such an object again and again, and its text."""
    if site < 0:
        return "", ""
    used = log.call_sites.sites[site]
    found = creation(used.file, class_name, used.line)
    return ("", "") if found is None else (found.place, found.text)


def _site(window: OptimizerWindow) -> int:
    return -1 if window.step_heard is None else window.step_heard.site
