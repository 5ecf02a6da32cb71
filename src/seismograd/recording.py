"""Connect the parts of a recording: the session that captures, the ranks, the halter, the pipeline,
and the sinks that judge and record.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from seismograd.i18n import Message, say, translate
from seismograd.option_effects import (
    about,
    measured_steps,
    overhead_budget,
    with_recorded_elements,
    xray_schedule,
)
from seismograd.pipeline.batch import Queued
from seismograd.pipeline.pump import Pump
from seismograd.pipeline.resumption import Resumption
from seismograd.pipeline.run_reports import RunReports
from seismograd.pipeline.run_sinks import RunSinks
from seismograd.program_ending import ending_note, last_shown_exception
from seismograd.run_outlet import RunOutlet
from seismograd.schema import Finding, Note, RowBatch, Sink
from seismograd.settings.levels import DEEP, LIGHT, sketch_every
from seismograd.settings.recording_options import RecordingOptions
from seismograd.settings.rule_selection import RuleSelection
from seismograd.settings.snapshot_plan import SnapshotPlan

if TYPE_CHECKING:
    import torch

    from seismograd.capture.events import Listener
    from seismograd.capture.guard.update_guard import UpdateGuard
    from seismograd.capture.halt_listener import HaltListener
    from seismograd.capture.loop.measuring_time import MeasuringTime
    from seismograd.capture.snapshots.snapshot_files import SnapshotFiles
    from seismograd.capture.snapshots.snapshot_listener import SnapshotListener
    from seismograd.pipeline.halt import TrainingHalter
    from seismograd.record.places.running_upload import RunningUpload
    from seismograd.record.reader import Run
    from seismograd.views.widget.run_widget import RunWidget

NO_MESSAGE = Message("")
OF_SIGNALS = frozenset({"SG101", "SG102", "SG104"})  # findings that call for an X-ray


class Recording:
    """A run that is being recorded. Use it as a context manager, or call `close`; at the exit of
    the process it closes by itself.

    Of several processes that train together (`torch.distributed`) rank 0 records; `path` is `None`
    in a process that is known from the start not to be it. `child`: a process that another one,
    which records in the same directory if this one does not, has started. `extra_sinks`: sinks that
    get what the rules and the record get, after them. `close_at_exit`: who made it does not close
    it there. `prints_summary`: `close` prints a line with the path of the record and the verdict.
    `base`: where the run is, as it was asked for, also in a process that does not record: where
    that cannot reach rank 0, it keeps what it measured beside it.
    `upload`: what sends the record to a place. `uploaded`: what is to be said of that at the end.
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
        options: RecordingOptions | None = None,
        child: bool = False,
        extra_sinks: Sequence[Sink] = (),
        close_at_exit: bool = True,
        prints_summary: bool = False,
        base: Path | None = None,
        upload: RunningUpload | None = None,
    ) -> None:
        from seismograd.capture.hub import HUB
        from seismograd.capture.resume_listener import ResumeListener
        from seismograd.capture.session import Session
        from seismograd.distributed.local_backend import LocalBackend
        from seismograd.distributed.rank_listener import RankListener
        from seismograd.distributed.world import slurm_job
        from seismograd.measure.backend_selection import make_backend, why_slow
        from seismograd.tensors.shards import ShardTable

        self._path, self._hub, self._tracks = path, HUB, False
        self._upload, self.uploaded = upload, NO_MESSAGE
        options = with_recorded_elements(RecordingOptions() if options is None else options)
        level, snapshots = options.level, options.snapshots
        selection = self._selection = options.selection
        slow, shards = why_slow(), ShardTable()
        backend = LocalBackend(make_backend(), shards)
        self._sinks = (
            None
            if path is None
            else RunSinks(
                path,
                about(script, options),
                selection,
                child,
                extra_sinks,
                options.record,
                options.trackers,
                self._track_to_the_end,
            )
        )
        session = self._session = Session(
            backend,
            models,
            optimizers,
            options.elements,
            sampling=level != LIGHT,
            budget=overhead_budget(options.budget, is_slow=slow is not None, child=child),
            replays=options.replay,
            keeps_batches=snapshots is not None and snapshots.batch,
            xray=xray_schedule(level, options.budget),
            sketch_every=sketch_every(level, options.every),
            measured_steps=measured_steps(options.every, child=child),
            compares_often=level == DEEP,
        )
        pump = self._pump = Pump(
            () if self._sinks is None else self._sinks.sinks,
            session.guard.failed,
            look=session.hand_on_waiting,
            adapt=self._adapt,
        )
        self._reports = RunReports(
            lambda: self.path, base or path, about(script, options), options.record
        )
        self._ranks = RankListener(
            backend,
            shards,
            deliver=pump.put if not options.trackers else self._deliver_first,
            report=pump.note,
            learn=pump.learn,
            on_join=self._on_join,
            directory=(lambda: self.path) if snapshots is not None else lambda: None,
            keeper=self._reports,
        )
        self._snapshot_files, self._snapshots = self._make_snapshots(snapshots)
        self._guard = self._make_guard() if options.guard else None
        self._halter = self._make_halter(selection)
        self._halt_listener = None if self._halter is None else _listener_of(self._halter)
        # What may change the gradients comes after what keeps them.
        self._acting = tuple(each for each in (self._snapshots, self._guard) if each is not None)
        self._outlet = RunOutlet(self._ranks, pump, self._halter, self._acting, path is not None)
        session.connect(self._outlet)
        self._resumption = Resumption(
            options.resume,
            self._sinks,
            options.record,
            session.number_from,
            self._ranks.note,
            child,
            hears_all=not models and not optimizers,
        )
        self._resume_listener = (
            None
            if options.resume is None
            else ResumeListener(
                session.guard,
                self._resumption.loaded,
                self._resumption.found,
                self._resumption.begins,
            )
        )
        if self._sinks is not None and level != LIGHT:
            self._sinks.on_finding(self._look_closer)
        self._open, self._prints_summary = True, prints_summary
        self._is_written, self._widgets = False, list["RunWidget"]()
        if slow is not None:
            self._ranks.note(Note("slow", -1, slow))
        job = None if child or path is None else slurm_job()
        if job is not None:
            self.note("job", job)
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
        from seismograd.record.compatibility import is_recorded
        from seismograd.record.reader import open_run

        path = self.path
        return None if path is None or not is_recorded(path) else open_run(path)

    def widget(self) -> RunWidget:
        """Return the run as a live widget, for a cell of a notebook: it grows while the training
        goes on, and its last state stays in the notebook. It reads the record on a thread of its
        own, so that the training never waits for it.

        Raises:
            SeismogradError: anywidget is not installed.
        """
        from seismograd.views.widget.run_follower import GrowingRun
        from seismograd.views.widget.widget_making import make_widget

        run = GrowingRun(lambda: self.path, lambda: not self._is_written, lambda: self._is_written)
        made = make_widget(run, lambda error: self.failed("widget", error))
        self._widgets.append(made)
        return made

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings of the rules so far, most severe and earliest first."""
        return () if self._sinks is None else self._sinks.rules.findings()

    @property
    def kept_apart(self) -> Message | None:
        """Return where what this process measured is, when it could not reach rank 0; `None`
        otherwise.
        """
        return self._reports.message

    @property
    def stopping_findings(self) -> tuple[Finding, ...]:
        """Return the findings at which the training was to stop (`halt_on`), without those of steps
        before it went on in this record alone.
        """
        return () if self._sinks is None else self._sinks.stopping(new=True)

    @property
    def is_recorded_elsewhere(self) -> bool:
        """Return whether another process, rank 0, records all that this one trains."""
        own = self._sinks is not None and self._sinks.writer.is_writing
        return not (self._ranks.first or own)

    @property
    def failures(self) -> Sequence[Note]:
        """Return our failures, including those that could not be written, as when the disk is
        full.
        """
        return self._pump.failures

    @property
    def spent(self) -> MeasuringTime:
        """Return what parts of the measuring have taken."""
        return self._session.spent

    def epoch(self, number: int) -> None:
        """Assign the following steps to epoch `number`; views then show epochs."""
        self._session.epoch(number)

    def note(self, kind: str, message: Message) -> None:
        """Record a message about the run as a whole."""
        self._ranks.note(Note(kind, -1, message))

    def state_dict(self) -> dict[str, str | int]:
        """Return what a checkpoint needs so that the training that loads it goes on in this record:
        where it is, and the number of the next step.
        """
        from seismograd.record.checkpoint_step import run_identity

        path = self.path
        return {
            "run": "" if path is None else str(path),
            "id": "" if path is None else run_identity(path),
            "iteration": self.num_iterations,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on in the record of the training that made this state, with the step after its last
        one: called before the first step. What that recorded after the checkpoint is kept as a
        branch of the record. Where the record is not there, this one begins with that step.
        """
        self._resumption.state_loaded(state, self.path, self.num_iterations)

    def _adapt(self, item: Queued) -> Queued | None:
        """Return what the sinks get of what the session hands on."""
        return self._resumption.adapt(item)

    def xray(self) -> None:
        """Record the signals of the modules in the next forward and backward: called before the
        forward in the training loop it is of that step.
        """
        self._session.xray()

    def _look_closer(self, finding: Finding) -> None:
        """Sample the signals at once where a finding is about them."""
        if finding.code in OF_SIGNALS:
            self._session.xray_soon()

    def _deliver_first(self, batch: RowBatch) -> None:
        """Hand on a row, the first of them when the script's own run of a tracker has begun."""
        if not self._tracks:
            self._track_to_the_end()
        self._pump.put(batch)

    def _track_to_the_end(self) -> None:
        """Have the trackers get what waits before the exit ends them: what is registered last is
        called first, and a tracker has registered its end when it began.
        """
        self._tracks = True
        atexit.unregister(self._drain_trackers)
        atexit.register(self._drain_trackers)

    def _drain_trackers(self) -> None:
        atexit.unregister(self._drain_trackers)
        if self._open and not self._outlet.is_abandoned and self._sinks is not None:
            self._session.guard.call("trackers", self._session.flush)
            self._session.guard.call("trackers", self._pump.drain)
            if self._sinks.trackers is not None:
                self._sinks.trackers.exit_begins()

    @property
    def num_iterations(self) -> int:
        """Return how many iterations have made their step."""
        return self._session.num_stepped

    @property
    def training_threads(self) -> Sequence[int]:
        """Return the threads of the program that have been listened to, by their `ident`."""
        return self._session.training_threads

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
        self._session.pauses(paused=True)

    def resume(self) -> None:
        """Watch again after `pause`."""
        self._session.pauses(paused=False)
        for listener in self._listeners():
            self._hub.attach(listener)

    def close(self) -> None:
        """Stop watching, restore torch, and finish the record. Calling it again does nothing."""
        if not self._open or self._outlet.is_abandoned:
            return
        self._open = False
        atexit.unregister(self._close_at_exit)
        atexit.unregister(self._drain_trackers)
        self._hub.detach(self._session)
        for listener in self._listeners():
            if listener is not self._ranks and listener is not self._session:
                self._hub.detach(listener)
        self._session.guard.call("finish", self._session.finish)
        self._hub.detach(self._ranks)
        self._session.guard.call("ranks", self._ranks.finish)
        self._session.guard.call("ranks", self._reports.close)
        if self._snapshot_files is not None:
            self._session.guard.call("snapshots", self._close_snapshots, self._snapshot_files)
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
        if self._sinks is not None and self.is_recorded_elsewhere:
            self._sinks.writer.leave()
        self._pump.close()
        self._is_written = True
        for widget in self._widgets:
            self._session.guard.call("widget", widget.finish)
        if self._upload is not None:
            self._session.guard.call("upload", self._finish_upload, self._upload)
        if self._prints_summary and self._reports.message is not None:
            line = self._reports.message.render()
            print(translate("seismograd: {line}").format(line=line), file=sys.stderr)
        elif self._prints_summary and self.path is not None:
            self._session.guard.call("closing line", self._print_summary, self.path)

    def _print_summary(self, path: Path) -> None:
        from seismograd.views.closing_line import closing_line

        line = closing_line(self.run, path, self._selection)
        for each in (line, self.uploaded.render()):
            if each:
                print(translate("seismograd: {line}").format(line=each), file=sys.stderr)

    def _finish_upload(self, upload: RunningUpload) -> None:
        """Wait a little for the place, once all of the record is on the disk."""
        if self.path is not None:
            self.uploaded = upload.finish(self.path) or NO_MESSAGE

    def _make_halter(self, selection: RuleSelection) -> TrainingHalter | None:
        """Return what stops the training at a finding, where this process judges and may stop."""
        path = self._path
        if self._sinks is None or path is None or not selection.halting:
            return None
        from seismograd.pipeline.halt import TrainingHalter

        halter = TrainingHalter(
            selection,
            lambda: self.path or path,
            self._session.so_far,
            self._save_halted,
            self._pump.note,
        )
        rules = self._sinks.rules
        self._sinks.on_finding(
            lambda finding: halter.take(finding) if rules.is_new(finding) else None
        )
        return halter

    def _save_halted(self, path: Path, step: int, code: str, samples: str) -> None:
        """Write the gradients of an update that is not made, and what else was asked for."""
        metadata = {"step": str(step), "content": "gradients", "reason": code, "samples": samples}
        self._session.running_step.save_gradients(path, metadata)
        if self._snapshots is not None:
            self._snapshots.halted(step, code)

    def _make_snapshots(
        self, plan: SnapshotPlan | None
    ) -> tuple[SnapshotFiles | None, SnapshotListener | None]:
        """Return what keeps whole gradients, where that was asked for."""
        if plan is None:
            return None, None
        from seismograd.capture.snapshots.snapshot_files import SnapshotFiles
        from seismograd.capture.snapshots.snapshot_listener import SnapshotListener

        errors, ranks = self._session.guard, self._ranks
        files = SnapshotFiles(
            plan, lambda: ranks.directory, lambda error: errors.failed("snapshots", error)
        )
        listener = SnapshotListener(
            self._session.running_step, plan, files, errors, lambda: (ranks.rank, ranks.size)
        )
        if self._sinks is not None:
            self._sinks.on_finding(lambda finding: listener.take_finding(finding.code))
        return files, listener

    def _close_snapshots(self, files: SnapshotFiles) -> None:
        files.close()
        if files.num_left_out:
            self._ranks.note(
                Note(
                    "snapshots",
                    -1,
                    say(
                        "snapshots not taken, because of their number or size, or because the "
                        "disk could not keep up: {count}",
                        count=files.num_left_out,
                    ),
                )
            )

    def _make_guard(self) -> UpdateGuard:
        """Return what leaves out harmful updates, on every process alike."""
        from seismograd.capture.guard.update_guard import UpdateGuard

        session = self._session

        def report(message: Message) -> None:
            self._ranks.note(Note("guard", session.num_stepped - 1, message))

        return UpdateGuard(session.running_step, session.guard, report)

    def _on_join(self) -> None:
        """Hand on what this process measured alone, and look for rows that wait in the session:
        every process reports the last step before a pause.
        """
        self._session.flush()
        self._outlet.joined()
        self._pump.begin()

    def _listeners(self) -> tuple[Listener, ...]:
        """Return the listeners in order: a finding in the session stops the training before the
        guard and the ranks act, and a row is on its way before the next iteration begins.
        """
        halter = () if self._halt_listener is None else (self._halt_listener,)
        first = () if self._resume_listener is None else (self._resume_listener,)
        return (*first, self._session, *halter, *self._acting, self._ranks)


def _listener_of(halter: TrainingHalter) -> HaltListener:
    from seismograd.capture.halt_listener import HaltListener

    return HaltListener(halter.backward_begins, halter.step_begins, halter.abandon)
