"""Watch while `seismograd run` runs a script, until the process ends."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.cli.launch import process_end
from seismograd.cli.launch.child_process import ChildProcess
from seismograd.cli.launch.end_report import EndReport
from seismograd.cli.launch.launchers import Launched, PythonCommand
from seismograd.cli.launch.request import Request
from seismograd.errors import TrainingHalted
from seismograd.i18n import Message, say
from seismograd.import_hook import is_imported, when_imported
from seismograd.random_states import same_random_numbers
from seismograd.record.run_claim import release

if TYPE_CHECKING:
    from seismograd.recording import Recording
    from seismograd.schema import Finding, Sink


class Watcher:
    """Starts the recording when torch is imported, and ends it when the interpreter ends, after
    everything that the script does then.

    `halted`: the exception that stopped the script on our behalf.
    """

    def __init__(self, run: Request) -> None:
        self._run = run
        self._report = EndReport(run)
        self._recording: Recording | None = None
        self._problem: Message | None = None
        self._unfollow: Callable[[], None] = lambda: None
        self._discarded = False
        self._launched = Launched(self._becomes)
        self._interrupt: process_end.Interrupt | None = None
        self._error: BaseException | None = None
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

    def _becomes(self, command: PythonCommand) -> None:
        """The script replaces itself with another program."""
        self._release()
        self._report.becomes(command)

    def _hear_torch(self) -> None:
        # What is imported now would bring a full collection nearer: it takes longer than the first
        # steps of a small program, which may have none.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            with same_random_numbers():
                self._start()
        finally:
            if was_enabled:
                gc.enable()

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
            if not self._discarded:
                self._report.write(
                    self._recording, self._problem, self.halted, self._launched.commands
                )
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
