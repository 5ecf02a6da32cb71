"""Watch while `seismograd run` runs a script, and report the findings at the end of the process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.cli.launch import process_end
from seismograd.cli.launch.child_process import ChildProcess
from seismograd.cli.launch.launchers import Launched, PythonCommand, line_to_type, short
from seismograd.cli.launch.script_runner import ScriptProgram
from seismograd.errors import ResumptionRefused, TrainingHalted
from seismograd.i18n import Message, say, translate, use_language
from seismograd.import_hook import is_imported, when_imported
from seismograd.random_states import same_random_numbers
from seismograd.record.run_claim import release
from seismograd.settings.recording_options import RecordingOptions

if TYPE_CHECKING:
    from seismograd.capture.loop.measuring_time import MeasuringTime
    from seismograd.record.places.running_upload import RunningUpload
    from seismograd.recording import Recording
    from seismograd.schema import Finding, Sink
    from seismograd.views.watching_cost import LeftOut


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command line.

    `program` is None for a module, which is found only when its turn has come; `path` in a process
    other than rank 0, which does not record but reports to rank 0, or keeps what it measured beside
    `base`.
    """

    target: str
    arguments: Sequence[str]
    program: ScriptProgram | None
    path: Path | None
    options: RecordingOptions
    quiet: bool
    lang: str
    base: Path | None = None
    upload: RunningUpload | None = None


class Watcher:
    """Starts the recording when torch is imported, and ends it when the interpreter ends, after
    everything that the script does then.

    `halted`: the exception that stopped the script on our behalf.
    """

    def __init__(self, run: Request) -> None:
        self._run = run
        self._home = Path.cwd()  # the script may change directory
        self._recording: Recording | None = None
        self._problem: Message | None = None
        self._unfollow: Callable[[], None] = lambda: None
        self._discarded = False
        self._launched = Launched(self._say_what_it_becomes)
        self._began_s = time.time()
        self._interrupt: process_end.Interrupt | None = None
        self._error: BaseException | None = None
        self._num_steps = 0
        self.halted: TrainingHalted | None = None

    def listen(self) -> None:
        """Register for torch's import and the end of the process. Nothing of the script may have
        run before.
        """
        process_end.at_the_very_end(self._end)
        self._launched.listen()
        when_imported("torch", self._hear_torch)

    def ended_by(self, error: BaseException) -> None:
        """Note that the script raised this, `SystemExit` included, and did not catch it."""
        self._error = error
        if type(error) is KeyboardInterrupt:
            self._interrupt = process_end.Interrupt()

    def discard(self) -> None:
        """Remove the empty directory and report nothing at the end, because nothing was run."""
        self._discarded = True
        self._release()

    def _release(self) -> None:
        """Give the directory back when nothing was recorded and nothing will be."""
        if self._run.path is not None and self._recording is None:
            release(self._run.path)

    def _hear_torch(self) -> None:
        with same_random_numbers():
            self._start()

    def _start(self) -> None:
        """Start watching. When that fails, the script runs on without us."""
        try:
            from seismograd.cli.launch.spawned_processes import follow
            from seismograd.recording import Recording

            run = self._run
            name = run.target if run.program is None else Path(run.target).name
            self._recording = Recording(
                run.path,
                name,
                options=run.options,
                extra_sinks=self._progress(),
                close_at_exit=False,  # the script's own exit handlers may train
                base=run.base,
                upload=run.upload,
            )
            if run.path is not None:
                self._unfollow = follow(ChildProcess(run.path, name, run.options))
        except Exception as error:
            self._problem = say(
                "watching could not start, so nothing was recorded: {error}",
                error=f"{type(error).__name__}: {error}",
            )

    def _progress(self) -> tuple[Sink, ...]:
        """Return the line at the bottom of the terminal, where there is a terminal and nobody asked
        for quiet.
        """
        from seismograd.cli.terminal.progress_line import ProgressLine, may_show

        if (
            self._run.quiet
            or self._run.path is None
            or sys.__stderr__ is None
            or not may_show(os.environ)
        ):
            return ()
        return (ProgressLine(sys.__stderr__.fileno(), self._run.lang, self._findings),)

    def _findings(self) -> tuple[Finding, ...]:
        return () if self._recording is None else self._recording.findings

    def _end(self) -> None:
        with (
            nullcontext() if self._interrupt is None else self._interrupt.kept(),
            same_random_numbers(),
        ):
            self._stop()
            self._summarise()
        if self._ended_well() and self._would_have_halted():
            process_end.end_with(1)

    def _stop(self) -> None:
        """Close the record, and report one in which torch was never imported."""
        self._unfollow()
        if self._recording is not None:
            if self._error is not None:
                self._recording.ended_by(self._error)
            self._recording.close()
        elif self._problem is None and self._run.path is not None and not self._discarded:
            self._problem = (
                say(
                    "error: seismograd did not notice the import of torch, so nothing was "
                    "recorded; importing torch in the first line of the script helps"
                )
                if is_imported("torch")
                else say("the script never imported torch, so nothing was recorded")
            )
        self._release()

    def _ended_well(self) -> bool:
        if self.halted is not None:
            return False
        return self._error is None or (
            isinstance(self._error, SystemExit) and self._error.code in (None, 0)
        )

    def _would_have_halted(self) -> bool:
        """Return whether a finding was to stop the training, though it ended before the rules had
        run.
        """
        return self._recording is not None and bool(self._recording.stopping_findings)

    def _summarise(self) -> None:
        """Print where the record is, the last step, the findings and the next command, on
        stderr.
        """
        if self._discarded:
            return
        process_end.flush_output()
        with use_language(self._run.lang):
            if isinstance(self.halted, ResumptionRefused):
                print(
                    translate("seismograd: {line}").format(line=self.halted.error.line()),
                    file=sys.__stderr__,
                )
                return
            apart = None if self._recording is None else self._recording.kept_apart
            if not self._run.quiet and apart is not None:
                self._print(apart.render())
            elif not self._run.quiet and self._run.path is not None:
                self._print_what_there_is()
                if self._recording is not None and self._recording.uploaded.template:
                    self._print(self._recording.uploaded.render())
            if self.halted is not None:
                self._print(self.halted.message.render())

    def _print_what_there_is(self) -> None:
        if self._problem is not None:
            self._print(self._problem.render())
        elif self._recording is not None and not self._recording.is_recorded_elsewhere:
            try:
                self._print_summary(self._recording)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                self._print(translate("the summary could not be shown: {error}").format(error=text))

        if not self._num_steps:
            for command in self._launched.commands:
                self._print(self._started(command).render())

    def _started(self, command: PythonCommand) -> Message:
        return say(
            "{name} was started as a separate program, which is not recorded; to record it, run: "
            "{line}",
            name=short(command),
            line=self._line(command),
        )

    def _line(self, command: PythonCommand) -> str:
        return line_to_type(
            command, self._run.target, self._run.program is None, self._run.arguments
        )

    def _say_what_it_becomes(self, command: PythonCommand) -> None:
        self._release()
        if self._run.quiet or self._run.path is None:
            return
        message = say(
            "the script replaces itself with another program, {name}, which is not recorded; to "
            "record it, run: {line}",
            name=short(command),
            line=self._line(command),
        )
        with use_language(self._run.lang):
            self._print(message.render())

    def _print_summary(self, recording: Recording) -> None:
        from rich.console import Console

        from seismograd.cli.terminal.run_summary import print_summary
        from seismograd.diagnosis.selected_rules import selected_rules
        from seismograd.diagnosis.verdict import judge, known_verdict
        from seismograd.record.reader import open_run

        assert recording.path is not None
        try:
            run = open_run(recording.path)
        except Exception:
            for note in recording.failures:  # why there is nothing to open
                self._print(note.message.render())
            raise
        self._num_steps = len(run.steps)
        for note in recording.failures:
            if note not in run.notes:
                self._print(note.message.render())
        rules = selected_rules(self._run.options.selection)
        printed = () if self.halted is None else ("halted",)
        print_summary(
            known_verdict(run, rules) or judge(run, rules),
            Console(file=sys.__stderr__),
            self._home,
            printed,
            self._others(recording.path),
            self._left_out(recording.spent),
        )

    def _left_out(self, spent: MeasuringTime) -> LeftOut:
        """Return what options that this run does not have would leave out."""
        from seismograd.settings.levels import LIGHT
        from seismograd.views.watching_cost import EVERY, LeftOut

        options = self._run.options
        return LeftOut(
            0.0 if options.level == LIGHT else spent.of_samples(),
            0.0 if options.every > 1 or options.guard else spent.of_steps(EVERY),
        )

    def _others(self, path: Path) -> list[Path]:
        """Return the runs of other processes of this run; a directory may be left from an earlier
        one.
        """
        from seismograd.record.lazy_writer import paths_of_others

        assert self._run.path is not None
        return [
            other
            for other in (self._run.path, *paths_of_others(self._run.path))
            if other != path and other.stat().st_mtime >= self._began_s
        ]

    @staticmethod
    def _print(line: str) -> None:
        print(translate("seismograd: {line}").format(line=line), file=sys.__stderr__)
