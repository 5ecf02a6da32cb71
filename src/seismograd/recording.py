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

from seismograd.i18n import Message, say, translate
from seismograd.package_info import VERSION
from seismograd.pipeline.halt import TrainingHalter
from seismograd.pipeline.pump import Pump
from seismograd.pipeline.run_sinks import RunSinks
from seismograd.program_ending import ending_note, last_shown_exception
from seismograd.run_outlet import RunOutlet
from seismograd.schema import FactKind, Finding, Note, RunInfo, Sink
from seismograd.settings.elements import ElementSpec
from seismograd.settings.levels import DEEP, LIGHT, NORMAL, sketch_every
from seismograd.settings.record_settings import RecordSettings
from seismograd.settings.rule_selection import RuleSelection

if TYPE_CHECKING:
    import torch

    from seismograd.capture.events import Listener
    from seismograd.capture.guard.update_guard import UpdateGuard
    from seismograd.capture.halt_listener import HaltListener
    from seismograd.capture.loop.overhead_budget import OverheadBudget
    from seismograd.capture.xray.xray import XraySchedule
    from seismograd.record.reader import Run

OF_SIGNALS = frozenset({"SG101", "SG102", "SG104"})  # findings that call for an X-ray
SHARE_AT_DEEP = 0.1  # of the time, which may go into X-rays


class Recording:
    """A run that is being recorded. Use it as a context manager, or call `close`; at the exit of
    the process it closes by itself.

    Of several processes that train together (`torch.distributed`) rank 0 records; `path` is `None`
    in a process that is known from the start not to be it. `child`: a process that another one,
    which records in the same directory if this one does not, has started. `extra_sinks`: sinks that
    get what the rules and the record get, after them. `close_at_exit`: who made it does not close
    it there. `replay`: a model may be called once more to find where a NaN arose. `tells`: `close`
    prints a line that says where the record is and what was found. `record`: how it is written.
    `guard`: harmful updates are left out.
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
        replay: bool = True,
        tells: bool = False,
        record: RecordSettings | None = None,
        guard: bool = False,
    ) -> None:
        from seismograd.capture.hub import HUB
        from seismograd.capture.session import Session
        from seismograd.distributed.local_backend import LocalBackend
        from seismograd.distributed.rank_listener import RankListener
        from seismograd.measure.backend_selection import make_backend, why_slow
        from seismograd.tensors.shards import ShardTable

        self._path, self._hub = path, HUB
        selection = self._selection = RuleSelection() if selection is None else selection
        slow, shards = why_slow(), ShardTable()
        backend = LocalBackend(make_backend(), shards)
        self._sinks = (
            None
            if path is None
            else RunSinks(
                path, _about(script, level, elements), selection, child, extra_sinks, record
            )
        )
        session = self._session = Session(
            backend,
            models,
            optimizers,
            elements,
            sampling=level != LIGHT,
            budget=_budget(budget, is_slow=slow is not None, child=child),
            replays=replay,
            xray=_xray_schedule(level, budget),
            sketch_every=sketch_every(level),
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
            on_join=self._on_join,
        )
        self._halter = self._make_halter(selection)
        self._guard = self._make_guard() if guard else None
        self._halt_listener = None if self._halter is None else _listener_of(self._halter)
        self._outlet = RunOutlet(self._ranks, pump, self._halter, self._guard, path is not None)
        session.connect(self._outlet)
        if self._sinks is not None and level != LIGHT:
            self._sinks.on_finding(self._look_closer)
        self._open, self._tells = True, tells
        if slow is not None:
            self._ranks.note(Note("slow", -1, slow))
        self.resume()
        self._shown_before = last_shown_exception()
        if close_at_exit:
            atexit.register(self._close_at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.ended_by(error)
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return (
            f"<Recording {self.path}: steps: {self.num_iterations}, "
            f"findings: {len(self.findings)}, {state}>"
        )

    @property
    def path(self) -> Path | None:
        """Return where it is recorded: beside the requested directory when another process has
        taken that.
        """
        return self._path if self._sinks is None else self._sinks.writer.path

    @property
    def run(self) -> Run | None:
        """Return the run as it is recorded by now; `None` in a process that does not record, and
        before the first step.
        """
        from seismograd.record.compatibility import is_run
        from seismograd.record.reader import open_run

        path = self.path
        return None if path is None or not is_run(path) else open_run(path)

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

    def xray(self) -> None:
        """Record the signals of the modules in the next forward and backward: called before the
        forward in the training loop it is of that step.
        """
        self._session.xray()

    def _look_closer(self, finding: Finding) -> None:
        """Sample the signals at once where a finding is about them."""
        if finding.code in OF_SIGNALS:
            self._session.xray_soon()

    @property
    def num_iterations(self) -> int:
        """Return how many iterations have made their step."""
        return self._session.num_stepped

    def failed(self, part: str, error: BaseException) -> None:
        """Count and report a failure of a part that works beside the session."""
        self._session.guard.failed(part, error)

    def ended_by(self, error: BaseException) -> None:
        """Note that the program did not come to its end because of this exception."""
        note = ending_note(error) if self._open else None
        if note is not None:
            self._ranks.note(note)

    def _close_at_exit(self) -> None:
        """Close; an exception that nobody caught has been shown by now."""
        shown = last_shown_exception()
        if shown is not None and shown is not self._shown_before and not hasattr(sys, "ps1"):
            self.ended_by(shown)
        self.close()

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
        atexit.unregister(self._close_at_exit)
        self._hub.detach(self._session)
        for listener in (self._halt_listener, self._guard):
            if listener is not None:
                self._hub.detach(listener)
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
        if self._tells and self.path is not None:
            self._session.guard.call("closing line", self._tell, self.path)

    def _tell(self, path: Path) -> None:
        from seismograd.views.closing_line import closing_line

        line = closing_line(self.run, path, self._selection)
        print(translate("seismograd: {line}").format(line=line), file=sys.stderr)

    def _make_halter(self, selection: RuleSelection) -> TrainingHalter | None:
        """Return what stops the training at a finding, where this process judges and may stop."""
        if self._sinks is None or self._path is None or not selection.halting:
            return None
        halter = TrainingHalter(
            selection,
            self._path,
            self._session.so_far,
            self._session.save_gradients,
            self._pump.note,
        )
        self._sinks.on_finding(halter.take)
        return halter

    def _make_guard(self) -> UpdateGuard:
        """Return what leaves out harmful updates, on every process alike."""
        from seismograd.capture.guard.update_guard import UpdateGuard

        session = self._session

        def tell(message: Message) -> None:
            self._ranks.note(Note("guard", session.num_stepped - 1, message))

        return UpdateGuard(session, session.guard, tell)

    def _on_join(self) -> None:
        """Hand on what this process measured alone, and look for rows that wait in the session:
        every process reports the last step before a pause.
        """
        self._session.flush()
        self._pump.begin()

    def _listeners(self) -> tuple[Listener, ...]:
        """Return the listeners in order: a finding in the session stops the training before the
        guard and the ranks act, and a row is on its way before the next iteration begins.
        """
        acting = (each for each in (self._halt_listener, self._guard) if each is not None)
        return (self._session, *acting, self._ranks)


def _listener_of(halter: TrainingHalter) -> HaltListener:
    from seismograd.capture.halt_listener import HaltListener

    return HaltListener(halter.backward_begins, halter.step_begins, halter.abandon)


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


def _xray_schedule(level: str, budget: float | None) -> XraySchedule:
    """Return how often the signals of modules are sampled: a quarter of the budget is for them."""
    from seismograd.capture.loop.overhead_budget import SHARE
    from seismograd.capture.xray.xray import FREE_STEP_S, XraySchedule

    if level == LIGHT:
        return XraySchedule(None)
    if level == DEEP:
        return XraySchedule(10, SHARE_AT_DEEP)
    share = (SHARE if budget is None else budget) / 4
    return XraySchedule(100, share, FREE_STEP_S if budget is None else 0.0)


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
