"""Report learning rate schedulers: how each was stepped, and the lines that create and step it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.probes.epochs import CountedEpochs
from seismograd.capture.probes.watched_scheduler import MadeScheduler, WatchedScheduler
from seismograd.capture.source.creations import interval_setter
from seismograd.capture.source.statements import creation, statement_at
from seismograd.schema import FactKind


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """Turns what is known of schedulers into facts."""

    facts: Facts
    log: EventLog

    def report(
        self,
        watched: WatchedScheduler,
        epochs: CountedEpochs,
        successor: OptimizerWindow | None,
        ended: bool,
    ) -> None:
        """Report how a scheduler has been stepped so far. `successor`: the optimizer that steps on
        the same parameters in place of its own.
        """
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
        num_epochs, per_epoch, batch_size = epochs
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
            epochs=num_epochs,
            per_epoch=per_epoch,
            batch_size=batch_size,
            world=float(os.environ.get("WORLD_SIZE") or 1),
            stepped=int(stepped),
            others="" if stepped else watched.others,
            **_successor_values(watched, successor),
        )

    def unstepped(self, made: MadeScheduler, number: int, window: OptimizerWindow) -> None:
        """Report a scheduler whose optimizer made steps while no scheduler of it was stepped."""
        self.facts.report(
            FactKind.SCHEDULE,
            site=made.site,
            optimizer=window.index,
            number=number,
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

    def remade(self, series: Sequence[WatchedScheduler]) -> None:
        """Report the last of several that replace each other."""
        last = series[-1]
        self.facts.report(
            FactKind.SCHEDULE_REMADE,
            site=last.site,
            optimizer=-1 if last.window is None else last.window.index,
            scheduler=last.kind,
            made=len(series),
            calls=series[-2].calls,
        )

    def epochs(self, epochs: CountedEpochs) -> None:
        """Report the epochs at the end, where there is a DataLoader."""
        num_epochs, per_epoch, _ = epochs
        if not math.isnan(num_epochs):
            self.facts.report(FactKind.EPOCHS, epochs=num_epochs, per_epoch=per_epoch)

    def _place(self, site: int) -> tuple[str, int]:
        known = self.log.call_sites.sites[site] if site >= 0 else None
        return ("", 0) if known is None else (known.file, known.line)

    def _step_at(self, site: int) -> str:
        """Return the statement at a line, if it is a step itself and no call of a framework."""
        text = statement_at(*self._place(site))
        return text if ".step(" in text else ""


def _successor_values(
    watched: WatchedScheduler, successor: OptimizerWindow | None
) -> dict[str, Any]:
    idle = watched.idle
    if successor is None:
        return {}
    return {
        "idle": idle.calls,
        "idle_lr": idle.lr,
        "successor": successor.name,
        "successor_index": successor.index,
        "successor_steps": idle.num_steps_of(successor),
    }
