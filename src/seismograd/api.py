"""Plugs the parts together: a session that listens, a backend that measures, and the sinks that
record and judge.
"""

from __future__ import annotations

import atexit
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import seismograd
from seismograd.diagnosis.engine import Diagnosis, LiveRules
from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.pipeline.halt import TrainingHalter
from seismograd.pipeline.pump import Pump
from seismograd.record.lazy_writer import LazyWriter
from seismograd.record.run_directory import create_run_directory
from seismograd.record.writer import Writer
from seismograd.schema import Fact, FactKind, Finding, Note, RowBatch, RunInfo, Sink
from seismograd.settings.elements import ElementSpec, parse_element
from seismograd.settings.levels import LIGHT, NORMAL, check_budget, check_level
from seismograd.settings.rule_selection import RuleSelection, select_rules

if TYPE_CHECKING:
    import torch


MAX_BATCH_ROWS = 64  # where nobody waits for each


class Recording:
    """A run that is being recorded. Use it as a context manager, or call `close`; at the exit of
    the process it closes by itself.

    Of several processes that train together (`torch.distributed`) rank 0 records; `path` is `None`
    in a process that is known from the start not to be it. `child`: a process that another one,
    which records in the same directory if this one does not, has started. `extra_sinks`: sinks that
    get what the rules and the record get, after them. `close_at_exit`: who made it does not close
    it there.
    """

    def __init__(
        self,
        path: Path | None,
        script: str,
        models: Sequence[torch.nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
        elements: Sequence[ElementSpec] = (),
        level: str = NORMAL,
        child: bool = False,
        selection: RuleSelection | None = None,
        budget: float | None = None,
        extra_sinks: Sequence[Sink] = (),
        close_at_exit: bool = True,
    ) -> None:
        from seismograd.capture.events import HUB
        from seismograd.capture.loop.overhead_budget import (
            FEWER_MEASURED,
            FEWER_SAMPLES,
            OverheadBudget,
        )
        from seismograd.capture.session import Session
        from seismograd.distributed.rank_listener import RankListener
        from seismograd.measure.backend_selection import best_backend, why_slow

        self._path = path
        self._writer: LazyWriter | None = None
        self._selection = RuleSelection() if selection is None else selection
        self._brake: TrainingHalter | None = None
        self._hub = HUB
        info = _about(script, level, elements)
        sinks: list[Sink] = []
        self._rules: LiveRules | None = None
        if path is not None:
            writer = self._writer = LazyWriter(
                path, lambda position: Writer(position, info), leave=child
            )
            self._rules = LiveRules(
                self._publish(writer), writer.conclude, Diagnosis(selected_rules(self._selection))
            )
            sinks = [self._rules, writer, *extra_sinks]
        # Several processes compare what each measures, so all of them measure at the same steps.
        slow, alone = why_slow(), not child and os.environ.get("WORLD_SIZE", "1") == "1"
        self._ranks = RankListener(best_backend(), deliver=self._deliver, tell=self._tell)
        self._session = Session(
            self._ranks.backend,
            emit=self._emit,
            tell=self._ranks.note,
            learn=self._learn,
            models=models,
            optimizers=optimizers,
            elements=elements,
            sampling=level != LIGHT,
            abandon=self._abandon,
            external_overhead_s=self._take_overhead,
            max_batch_rows=lambda: (
                1 if self._brake is not None or self._ranks.linked else MAX_BATCH_ROWS
            ),
            alone=lambda: not self._ranks.linked,
            stepped=self._begin,
            budget=OverheadBudget(
                budget, FEWER_MEASURED if slow is not None and alone else FEWER_SAMPLES
            ),
        )
        self._ranks.on_join = self._session.flush
        session = self._session
        self._pump = Pump(
            sinks,
            session.guard.failed,
            look=session.hand_on_waiting,
        )
        # also those that could not be written, as when the disk is full
        self.failures: list[Note] = []
        self._open = True
        if slow is not None:
            self._ranks.note(Note("slow", -1, slow))
        self._hub.attach(self._session)
        if path is not None and self._selection.halting:
            self._brake = self._make_brake(path)
            self._hub.attach(self._brake)
        # behind it, so that a row is on its way before the next iteration begins
        self._hub.attach(self._ranks)
        if close_at_exit:
            atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path | None:
        """Where it is recorded: beside the directory asked for when another process has taken
        that.
        """
        return self._path if self._writer is None else self._writer.path

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules have found so far, most severe and earliest first."""
        return () if self._rules is None else self._rules.findings()

    def epoch(self, number: int) -> None:
        """Say that the steps from here on belong to epoch `number`; views then show epochs."""
        self._session.epoch(number)

    @property
    def num_iterations(self) -> int:
        """How many iterations have made their step."""
        return self._session.num_stepped

    def failed(self, part: str, error: BaseException) -> None:
        """Count and tell a failure of a part that works beside the session."""
        self._session.guard.failed(part, error)

    def close(self) -> None:
        """Stop listening, put torch back as it was, and finish the record. Calling it again does
        nothing.
        """
        if not self._open:
            return
        self._open = False
        atexit.unregister(self.close)
        self._hub.detach(self._session)
        if self._brake is not None:
            self._hub.detach(self._brake)
        self._session.guard.call("finish", self._session.finish)
        self._hub.detach(self._ranks)
        self._session.guard.call("ranks", self._ranks.finish)
        if self._pump.dropped:
            count = self._pump.dropped
            self._pump.note(
                Note(
                    "thinned",
                    -1,
                    say(
                        "{count} iterations were not recorded: the disk could not keep up",
                        count=count,
                    ),
                )
            )
        self._pump.close()

    def _make_brake(self, path: Path) -> TrainingHalter:
        session, pump = self._session, self._pump
        return TrainingHalter(self._selection, path, session.so_far, session.gradients, pump.note)

    def _publish(self, writer: LazyWriter) -> Callable[[Finding], None]:
        def publish(finding: Finding) -> None:
            writer.finding(finding)
            if self._brake is not None:
                self._brake.take(finding)

        return publish

    def _take_overhead(self) -> float:
        return self._ranks.take_overhead() + (
            0.0 if self._brake is None else self._brake.take_overhead()
        )

    def _emit(self, batch: RowBatch) -> None:
        if self._brake is not None:
            self._brake.observe(batch)
        self._ranks.put(batch)

    def _begin(self) -> None:
        if self.path is not None:
            self._pump.begin()

    def _deliver(self, batch: RowBatch) -> None:
        self._pump.put(batch)

    def _tell(self, note: Note) -> None:
        if note.kind == "failure":
            self.failures.append(note)
        self._pump.note(note)

    def _learn(self, fact: Fact) -> None:
        self._pump.learn(fact)

    def _abandon(self) -> None:
        self._open = False
        atexit.unregister(self.close)
        self._pump.abandon()


def _about(script: str, level: str, elements: Sequence[ElementSpec]) -> RunInfo:
    """What is known of a run before its first step."""
    import torch

    return RunInfo(
        script=script,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        seismograd_version=seismograd.__version__,
        torch_version=torch.__version__,
        python_version=platform.python_version(),
        level=level,
        every=1,
        elements=tuple(map(str, elements)),
        fact_kinds=tuple(map(str, FactKind)),
    )


def watch(
    *watched: torch.nn.Module | torch.optim.Optimizer,
    out: str | Path | None = None,
    elements: Sequence[str] = (),
    level: str = NORMAL,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    halt_on: Sequence[str] = (),
    budget: float | None = None,
) -> Recording:
    """Record and judge the gradients of a training loop, from here until `close` (or the end of the
    `with` block, or of the process).

        with seismograd.watch(model, optimizer, out="runs/first") as session:
            train()

    Args:
        watched: the models and optimizers to listen to, in any order; without any, all that the
            process makes.
        out: the directory of the record, new or empty; default `runs/<UTC time>-<script name>/`. Of
            several processes that train together rank 0 writes it; each of them calls this.
        elements: single scalars to record at every step, such as `"fc1.weight[0,0]"`.
        level: `"normal"`, or `"light"` to leave out the sampled statistics (histogram, dead rows,
            weight norms).
        select: only these rules: codes, beginnings of codes, or names.
        ignore: leave these rules out.
        halt_on: stop the training with `TrainingHalted` at a finding of these rules, or at any that
            is an `"error"`; before the update is made where the rule knows it in time, leaving the
            gradients in the record.
        budget: the share of wall time that watching may take before it measures less, such as
            `0.01`; whether gradients are finite is checked at every step all the same. Default
            0.02, with half a millisecond a step and the first half minute free.

    Raises:
        SeismogradError: `out` is not empty or cannot be written, an element or the level is not
            well formed, or torch is missing.
        TypeError: something watched is neither a module nor an optimizer.
    """
    try:
        import torch
    except ModuleNotFoundError as missing:
        raise SeismogradError(
            say("watching needs PyTorch, which is not installed"), say("pip install torch")
        ) from missing
    check_level(level)
    check_budget(budget)
    selection = select_rules(select, ignore, halting=halt_on)
    specs = tuple(parse_element(text) for text in elements)
    models = [w for w in watched if isinstance(w, torch.nn.Module)]
    optimizers = [w for w in watched if isinstance(w, torch.optim.Optimizer)]
    for thing in watched:
        if not isinstance(thing, torch.nn.Module | torch.optim.Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"watch() takes modules and optimizers, not {type(thing).__name__}")
    from seismograd.distributed.world import rank_of_this_process

    script = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    path = (
        create_run_directory(None if out is None else Path(out), script)
        if rank_of_this_process() == 0
        else None
    )
    return Recording(
        path, script, models, optimizers, specs, level, selection=selection, budget=budget
    )
