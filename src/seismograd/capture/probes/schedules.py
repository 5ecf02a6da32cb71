"""Observe learning rate schedulers: what each is made for, and how it is stepped."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import groups_of, held_by, setting
from seismograd.capture.probes.epochs import Epochs
from seismograd.capture.probes.schedule_plan import Plan, plan_of
from seismograd.capture.probes.scheduler_reading import (
    done_before,
    is_number,
    rates_at_hand,
    unwrapped,
)
from seismograd.capture.probes.watched_scheduler import MadeScheduler, Metric, WatchedScheduler
from seismograd.capture.source.creations import interval_setter
from seismograd.capture.source.statements import creation, statement_at
from seismograd.schema import FactKind

LASTING = 32  # calls
MAX_SCHEDULERS = 64
OFTEN = 8  # calls after each of which the optimizers of the same parameters are looked for


@dataclass(slots=True)
class Schedules:
    """`num_backwards()` returns how many there were; `iteration()` the current one."""

    facts: Facts
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
        epochs, per_epoch, _ = self._epochs.so_far(self.num_backwards())
        if not math.isnan(epochs):
            self.facts.report(FactKind.EPOCHS, epochs=epochs, per_epoch=per_epoch)
        for watched in self._watched.values():
            self._report(watched, ended=True)
        stepped = {watched.key[0] for watched in self._watched.values()}
        for made in self._made:
            optimizer = made.optimizer()
            window = None if optimizer is None else self.registry.known(optimizer)
            if window is not None and id(optimizer) not in stepped:
                self._report_unstepped(made, window)

    def _report_unstepped(self, made: MadeScheduler, window: OptimizerWindow) -> None:
        """Report a scheduler whose optimizer made steps while no scheduler of it was stepped."""
        self.facts.report(
            FactKind.SCHEDULE,
            site=made.site,
            optimizer=window.index,
            number=self._num,
            scheduler=made.kind,
            calls=0,
            lr=0.0,
            steps=window.num_steps,
            zero_since=0,
            zero_iteration=made.iteration,
            stepped=int(window.was_stepped),
            name=window.name,
            ended=1,
        )
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
            self.facts.report(
                FactKind.SCHEDULE_REMADE,
                site=watched.site,
                optimizer=-1 if watched.window is None else watched.window.index,
                scheduler=watched.kind,
                made=len(series),
                calls=series[-2].calls,
            )

    def _read_rate(self, watched: WatchedScheduler, optimizer: Any) -> None:
        """Note the current highest rate of any group; rates on a device are not read."""
        rates = rates_at_hand([setting(group, "lr") for group in groups_of(optimizer)])
        if rates:
            watched.has_set(max(rates), self.iteration())

    def _report(self, watched: WatchedScheduler, ended: bool) -> None:
        window = watched.window
        file, line = self._place(watched.site)
        made = creation(file, watched.kind, line) if file else None
        text = self._step_at(watched.site)
        interval = interval_setter(file) if file and not text else None
        common: dict[str, Any] = {
            "number": watched.number,
            "scheduler": watched.kind,
            "calls": watched.calls,
            "lr": watched.lr,
            "ended": int(ended),
            "text": text,
            "created": "" if made is None else made.place,
            "creation": "" if made is None else made.text,
            "interval": "" if interval is None else interval.text,
            "interval_at": "" if interval is None else interval.place,
            "name": "" if window is None else window.name,
        }
        index = -1 if window is None else window.index
        if watched.metric is not None:
            metric: dict[str, Any] = {
                each.name: getattr(watched.metric, each.name) for each in fields(watched.metric)
            }
            self.facts.report(
                FactKind.PLATEAU, site=watched.site, optimizer=index, **common, **metric
            )
            return
        epochs, per_epoch, batch_size = self._epochs.so_far(self.num_backwards())
        stepped = window is not None and window.was_stepped
        self.facts.report(
            FactKind.SCHEDULE,
            site=watched.site,
            optimizer=index,
            **common,
            steps=watched.num_steps() - watched.steps_before,
            backwards=watched.num_backwards(),
            before=watched.done_before,
            step_text="" if window is None else self._step_at(window.last_step_site),
            length=watched.plan.length,
            periodic=int(watched.plan.periodic),
            highest=watched.highest,
            base=watched.base,
            top=watched.top,
            top_call=watched.top_call,
            zero_since=watched.zero_since,
            zero_iteration=watched.zero_iteration,
            low_since=watched.low_since,
            low_iteration=watched.low_iteration,
            epochs=epochs,
            per_epoch=per_epoch,
            batch_size=batch_size,
            world=float(os.environ.get("WORLD_SIZE") or 1),
            stepped=int(stepped),
            others="" if stepped else watched.others,
            **self._successor(watched),
        )

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

    def _successor(self, watched: WatchedScheduler) -> dict[str, Any]:
        """Return what is known of that one, if no scheduler sets its rate."""
        idle, other = watched.idle, watched.idle.successor
        if other is None or any(each.window is other for each in self._watched.values()):
            return {}
        return {
            "idle": idle.calls,
            "idle_lr": idle.lr,
            "successor": other.name,
            "successor_index": other.index,
            "successor_steps": idle.num_steps_of(other),
        }

    def _place(self, site: int) -> tuple[str, int]:
        known = self.log.call_sites.sites[site] if site >= 0 else None
        return ("", 0) if known is None else (known.file, known.line)

    def _step_at(self, site: int) -> str:
        """Return the statement at a line, if it is a step itself and no call of a framework."""
        text = statement_at(*self._place(site))
        return text if ".step(" in text else ""

    def _others(self, optimizer: Any) -> str:
        """Return the optimizers that step on the parameters of this one."""
        held = {id(p) for p in held_by(optimizer)}
        return ", ".join(
            each.name
            for each in self.registry
            if each.was_stepped and any(id(p) in held for p in each.held())
        )
