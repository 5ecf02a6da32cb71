"""Observe learning rate schedulers: what each is made for, and how it is stepped."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import groups_of, held_by, setting
from seismograd.capture.probes.epochs import Epochs
from seismograd.capture.probes.schedule_facts import ScheduleFacts
from seismograd.capture.probes.schedule_plan import Plan, plan_of
from seismograd.capture.probes.scheduler_reading import (
    done_before,
    is_number,
    rates_at_hand,
    unwrapped,
)
from seismograd.capture.probes.watched_scheduler import MadeScheduler, Metric, WatchedScheduler

LASTING = 32  # calls
MAX_SCHEDULERS = 64
OFTEN = 8  # calls after each of which the optimizers of the same parameters are looked for


@dataclass(slots=True)
class Schedules:
    """`num_backwards()` returns how many there were; `iteration()` the current one."""

    facts: ScheduleFacts
    log: EventLog
    registry: OptimizerRegistry
    num_backwards: Callable[[], int]
    iteration: Callable[[], int]
    _watched: dict[int, WatchedScheduler] = field(default_factory=dict[int, WatchedScheduler])
    _epochs: Epochs = field(default_factory=Epochs)
    _series: dict[tuple[int, str, int], list[WatchedScheduler]] = field(
        default_factory=dict[tuple[int, str, int], list[WatchedScheduler]]
    )
    _num: int = 0
    _made: list[MadeScheduler] = field(default_factory=list[MadeScheduler])

    def made(self, _: ThreadState, scheduler: Any) -> None:
        """Remember a scheduler that begins at a rate of zero: it has to be stepped."""
        optimizer: Any = unwrapped(vars(scheduler).get("optimizer"))
        if optimizer is None or len(self._made) >= MAX_SCHEDULERS:
            return
        rates = rates_at_hand([setting(group, "lr") for group in groups_of(optimizer)])
        if rates and max(rates) == 0:
            site, kind = self.log.call_sites.here(OWN_FRAMES), type(scheduler).__name__
            of = weakref.ref(optimizer)
            self._made.append(MadeScheduler(kind, site, of, self.iteration()))

    def epoch_begins(self, _: ThreadState, loader: Any) -> None:
        """Note that a DataLoader is iterated from its beginning."""
        self._epochs.begins(loader, self.num_backwards())

    def scheduled(self, thread_state: ThreadState, scheduler: Any, metric: object) -> None:
        """Note that a scheduler was stepped."""
        watched = self._watched.get(id(scheduler))
        if watched is None or watched.alive() is not scheduler:
            watched = self._first_time(scheduler)
            if watched is None:
                return
            for step in thread_state.iteration.steps:
                if watched.window is not None and step.optimizer == watched.window.index:
                    watched.reached(step.lr.value if step.lr.tensor is None else math.nan)
        if watched.is_superseded:  # they are stepped in turn, which is no restart
            self._series[watched.key] = []
        watched.calls += 1
        watched.last_backward = self.num_backwards()
        if watched.window is None:
            watched.window = self.registry.known(unwrapped(scheduler.optimizer))
        before = watched.lr
        watched.idle.called(watched.num_steps(), before, self.registry)
        if watched.idle.calls and is_looked_at(watched.idle.calls):
            self._find_successor(watched, scheduler.optimizer)
        self._read_rate(watched, scheduler.optimizer)
        if watched.metric is not None:
            watched.metric.reductions += watched.lr < before
            if is_number(metric):
                watched.metric.take(float(metric))  # pyright: ignore[reportArgumentType]
        num_low = watched.calls - watched.low_since if watched.low_since >= 0 else 0
        if watched.calls <= OFTEN or is_looked_at(watched.calls):
            was_stepped = watched.window is not None and watched.window.was_stepped
            watched.others = "" if was_stepped else self._others(unwrapped(scheduler.optimizer))
        if is_looked_at(watched.calls) or num_low == LASTING:
            self._report(watched, ended=False)

    def finish(self) -> None:
        """Report how often each was stepped in all, and the epochs."""
        self.facts.epochs(self._epochs.so_far(self.num_backwards()))
        for watched in self._watched.values():
            self._report(watched, ended=True)
        stepped = {watched.key[0] for watched in self._watched.values()}
        for made in self._made:
            optimizer = made.optimizer()
            window = None if optimizer is None else self.registry.known(optimizer)
            if window is not None and id(optimizer) not in stepped:
                self.facts.unstepped(made, self._num, window)
                self._num += 1

    def _first_time(self, scheduler: Any) -> WatchedScheduler | None:
        known = cast("dict[str, Any]", vars(scheduler))
        optimizer: Any = unwrapped(known.get("optimizer"))
        if optimizer is None or self._num >= MAX_SCHEDULERS:
            return None
        mode = known.get("mode") if "patience" in known else None
        window = self.registry.known(optimizer)
        site = self.log.call_sites.here(OWN_FRAMES)
        watched = self._watched[id(scheduler)] = WatchedScheduler(
            self._num,
            type(scheduler).__name__,
            site,
            (id(optimizer), type(scheduler).__name__, site),
            weakref.ref(scheduler),
            plan_of(scheduler),
            Metric(mode) if isinstance(mode, str) else None,
            window,
            self._steps_before(optimizer, window),
            0 if window is None else window.num_steps,
            done_before(known),
            self.num_backwards(),
        )
        self._num += 1
        rates: list[object] = known.get("base_lrs", [])
        watched.highest = max(rates_at_hand(rates), default=-math.inf)
        if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            watched.base = watched.highest
        self._succeed(watched)
        return watched

    def _steps_before(self, optimizer: Any, window: OptimizerWindow | None) -> int:
        is_first = all(each.key[0] != id(optimizer) for each in self._watched.values())
        return 0 if is_first or window is None else max(0, window.num_steps - 1)

    def _succeed(self, watched: WatchedScheduler) -> None:
        """Report a scheduler that replaces one of its kind, with steps of the optimizer between the
        two.
        """
        continued = [
            each
            for each in self._watched.values()
            if each is not watched
            and each.kind == watched.kind
            and each.calls == watched.done_before > 0
        ]
        for each in continued:
            each.plan = Plan()  # what it was made for, another one does
        series = self._series.setdefault(watched.key, [])
        if series and series[-1].begun_at == watched.begun_at:
            series.clear()  # they are stepped side by side
        if series:
            series[-1].is_superseded = True
        series.append(watched)
        if len(series) > 2 and is_looked_at(len(series)):
            self.facts.remade(series)

    def _read_rate(self, watched: WatchedScheduler, optimizer: Any) -> None:
        """Note the current highest rate of any group; rates on a device are not read."""
        rates = rates_at_hand([setting(group, "lr") for group in groups_of(optimizer)])
        if rates:
            watched.has_set(max(rates), self.iteration())

    def _find_successor(self, watched: WatchedScheduler, optimizer: Any) -> None:
        """Find an optimizer that has stepped on the same parameters since this one has not."""
        ours = {id(p) for p in held_by(unwrapped(optimizer))}
        watched.idle.successor = next(
            (
                other
                for other in self.registry
                if watched.idle.num_steps_of(other) > 0 and any(id(p) in ours for p in other.held())
            ),
            None,
        )

    def _successor(self, watched: WatchedScheduler) -> OptimizerWindow | None:
        """Return that one, if no scheduler sets its rate."""
        other = watched.idle.successor
        return None if any(each.window is other for each in self._watched.values()) else other

    def _report(self, watched: WatchedScheduler, ended: bool) -> None:
        epochs = self._epochs.so_far(self.num_backwards())
        self.facts.report(watched, epochs, self._successor(watched), ended)

    def _others(self, optimizer: Any) -> str:
        """Return the optimizers that step on the parameters of this one."""
        held = {id(p) for p in held_by(optimizer)}
        return ", ".join(
            each.name
            for each in self.registry
            if each.was_stepped and any(id(p) in held for p in each.held())
        )
