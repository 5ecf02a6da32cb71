"""Connect the parts of a recording: the session that captures, the ranks, the halter, the pipeline,
and the sinks that judge and record.
"""

from __future__ import annotations

import atexit
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.package_info import VERSION
from seismograd.pipeline.halt import TrainingHalter
from seismograd.pipeline.pump import Pump
from seismograd.pipeline.run_sinks import RunSinks
from seismograd.record.run_directory import create_run_directory
from seismograd.schema import Fact, FactKind, Finding, Note, RowBatch, RunInfo, Sink
from seismograd.settings.elements import ElementSpec, parse_element
from seismograd.settings.levels import LIGHT, NORMAL, check_budget, check_level
from seismograd.settings.rule_selection import RuleSelection, select_rules

if TYPE_CHECKING:
    import torch

    from seismograd.capture.events import Listener
    from seismograd.capture.halt_listener import HaltListener
    from seismograd.capture.loop.overhead_budget import OverheadBudget
    from seismograd.distributed.rank_listener import RankListener


MAX_BATCH_ROWS = 64  # where nobody waits for each


class RunOutlet:
    """The outlet of the session: past the halter and the other ranks to the pipeline.

    Args:
        ranks: combines iterations with those of other processes.
        pump: hands them to the sinks.
        halter: judges each iteration by itself; `None` where nothing stops the training.
        is_recorded: whether this process may record.
    """

    def __init__(
        self, ranks: RankListener, pump: Pump, halter: TrainingHalter | None, is_recorded: bool
    ) -> None:
        self._ranks, self._pump, self._halter = ranks, pump, halter
        self._is_recorded = is_recorded
        self.is_abandoned = False

    def emit(self, batch: RowBatch) -> None:
        """Hand on a finished iteration, or several."""
        if self._halter is not None:
            self._halter.observe(batch)
        self._ranks.put(batch)

    def note(self, note: Note) -> None:
        """Hand on a note: a process that does not record sends its failures to rank 0."""
        self._ranks.note(note)

    def learn(self, fact: Fact) -> None:
        """Hand on a fact."""
        self._pump.learn(fact)

    def stepped(self) -> None:
        """Start looking for rows."""
        if self._is_recorded:
            self._pump.begin()

    def abandon(self) -> None:
        """Forget everything and touch no file: this is a forked child."""
        self.is_abandoned = True
        self._pump.abandon()

    def take_overhead(self) -> float:
        """Return the seconds that the ranks and the halter took since the last call."""
        halter_s = 0.0 if self._halter is None else self._halter.take_overhead()
        return self._ranks.take_overhead() + halter_s

    @property
    def max_batch_rows(self) -> int:
        """Return how many rows to make at once: one where each is awaited."""
        return 1 if self._halter is not None or self._ranks.linked else MAX_BATCH_ROWS

    @property
    def is_alone(self) -> bool:
        """Return whether no other process trains with this one."""
        return not self._ranks.linked


class Recording:
    """A run that is being recorded. Use it as a context manager, or call `close`; at the exit of
    the process it closes by itself.

    Of several processes that train together (`torch.distributed`) rank 0 records; `path` is `None`
    in a process that is known from the start not to be it. `child`: a process that another one,
    which records in the same directory if this one does not, has started. `extra_sinks`: sinks that
    get what the rules and the record get, after them. `close_at_exit`: who made it does not close
    it there.
    """

    # The parts form a ring: the session reports the failures of the pipeline, and the pipeline
    # looks for rows that wait in the session. It is closed in one place, `connect`, when every part
    # exists.
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
        from seismograd.capture.halt_listener import HaltListener
        from seismograd.capture.hub import HUB
        from seismograd.capture.session import Session
        from seismograd.distributed.local_backend import LocalBackend
        from seismograd.distributed.rank_listener import RankListener
        from seismograd.measure.backend_selection import make_backend, why_slow
        from seismograd.tensors.shards import ShardTable

        self._path, self._hub = path, HUB
        selection = RuleSelection() if selection is None else selection
        slow, shards = why_slow(), ShardTable()
        backend = LocalBackend(make_backend(), shards)
        self._sinks = (
            None
            if path is None
            else RunSinks(path, _about(script, level, elements), selection, child, extra_sinks)
        )
        session = self._session = Session(
            backend,
            models,
            optimizers,
            elements,
            sampling=level != LIGHT,
            budget=_budget(budget, is_slow=slow is not None, child=child),
        )
        pump = self._pump = Pump(
            () if self._sinks is None else self._sinks.sinks,
            session.guard.failed,
            look=session.hand_on_waiting,
        )
        self._ranks = RankListener(
            backend,
            shards,
            deliver=pump.put,
            tell=pump.note,
            learn=pump.learn,
            on_join=session.flush,
        )
        self._halter: TrainingHalter | None = None
        self._halt_listener: HaltListener | None = None
        if self._sinks is not None and path is not None and selection.halting:
            self._halter = TrainingHalter(
                selection, path, session.so_far, session.save_gradients, pump.note
            )
            self._halt_listener = HaltListener(
                self._halter.backward_begins, self._halter.step_begins, self._halter.abandon
            )
            self._sinks.on_finding(self._halter.take)
        self._outlet = RunOutlet(self._ranks, pump, self._halter, path is not None)
        session.connect(self._outlet)
        self._open = True
        if slow is not None:
            self._ranks.note(Note("slow", -1, slow))
        self.resume()
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
        """Return where it is recorded: beside the requested directory when another process has
        taken that.
        """
        return self._path if self._sinks is None else self._sinks.writer.path

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings of the rules so far, most severe and earliest first."""
        return () if self._sinks is None else self._sinks.rules.findings()

    @property
    def failures(self) -> Sequence[Note]:
        """Return our failures, including those that could not be written, as when the disk is
        full.
        """
        return self._pump.failures

    def epoch(self, number: int) -> None:
        """Assign the following steps to epoch `number`; views then show epochs."""
        self._session.epoch(number)

    @property
    def num_iterations(self) -> int:
        """Return how many iterations have made their step."""
        return self._session.num_stepped

    def failed(self, part: str, error: BaseException) -> None:
        """Count and report a failure of a part that works beside the session."""
        self._session.guard.failed(part, error)

    def pause(self) -> None:
        """Stop watching until `resume`; torch is restored meanwhile if nobody else watches."""
        for listener in self._listeners():
            self._hub.detach(listener)

    def resume(self) -> None:
        """Watch again after `pause`."""
        for listener in self._listeners():
            self._hub.attach(listener)

    def close(self) -> None:
        """Stop watching, restore torch, and finish the record. Calling it again does nothing."""
        if not self._open or self._outlet.is_abandoned:
            return
        self._open = False
        atexit.unregister(self.close)
        self._hub.detach(self._session)
        if self._halt_listener is not None:
            self._hub.detach(self._halt_listener)
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
                        "steps not recorded because the disk could not keep up: {count}",
                        count=count,
                    ),
                )
            )
        self._pump.close()

    def _listeners(self) -> tuple[Listener, ...]:
        """Return the listeners in order: a finding in the session stops the training before the
        ranks act, and a row is on its way before the next iteration begins.
        """
        halter = () if self._halt_listener is None else (self._halt_listener,)
        return (self._session, *halter, self._ranks)


def _budget(budget: float | None, is_slow: bool, child: bool) -> OverheadBudget:
    """Return the budget. Where measuring is slow a single process measures at fewer steps; several
    processes compare their measurements, so all of them measure at the same steps.
    """
    from seismograd.capture.loop.overhead_budget import (
        FEWER_MEASURED,
        FEWER_SAMPLES,
        OverheadBudget,
    )

    is_single = not child and os.environ.get("WORLD_SIZE", "1") == "1"
    return OverheadBudget(budget, FEWER_MEASURED if is_slow and is_single else FEWER_SAMPLES)


def _about(script: str, level: str, elements: Sequence[ElementSpec]) -> RunInfo:
    """Return what is known of a run before its first step."""
    import torch

    return RunInfo(
        script=script,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        seismograd_version=VERSION,
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
            say("watching a training run needs PyTorch, which is not installed"),
            say("pip install torch"),
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
