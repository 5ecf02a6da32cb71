"""What `seismograd run` prints on stderr when the process ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.cli.launch import process_end
from seismograd.cli.launch.launchers import PythonCommand, line_to_type, short
from seismograd.cli.launch.request import Request
from seismograd.errors import ResumptionRefused, TrainingHalted
from seismograd.i18n import Message, say, translate, use_language

if TYPE_CHECKING:
    from seismograd.capture.loop.measuring_time import MeasuringTime
    from seismograd.record.reader import Run
    from seismograd.recording import Recording
    from seismograd.views.watching_cost import LeftOut


class EndReport:
    """Made before the script runs: it may change directory."""

    def __init__(self, run: Request) -> None:
        self._run = run
        self._home = Path.cwd()
        self._began_s = time.time()

    def write(
        self,
        recording: Recording | None,
        problem: Message | None,
        halted: TrainingHalted | None,
        commands: Sequence[PythonCommand],
    ) -> None:
        """Print where the record is, the last step, the findings and the next command; why there is
        no record, or what has `halted` the script; and, where nothing was trained, the programs
        that the script has started by `commands`.
        """
        process_end.flush_output()
        with use_language(self._run.lang):
            if isinstance(halted, ResumptionRefused):
                print(
                    translate("seismograd: {line}").format(line=halted.error.line()),
                    file=sys.__stderr__,
                )
                return
            apart = None if recording is None else recording.kept_apart
            if not self._run.quiet and apart is not None:
                self._print(apart.render())
            elif not self._run.quiet and self._run.path is not None:
                num_steps = 0
                if problem is not None:
                    self._print(problem.render())
                elif recording is not None and not recording.is_recorded_elsewhere:
                    num_steps = self._summarise(recording, is_halted=halted is not None)
                for command in () if num_steps else commands:
                    self._print(self._started(command).render())
                if recording is not None and recording.uploaded.template:
                    self._print(recording.uploaded.render())
            if halted is not None:
                self._print(halted.message.render())

    def becomes(self, command: PythonCommand) -> None:
        """Print that the script replaces itself with another program."""
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

    def _summarise(self, recording: Recording, *, is_halted: bool) -> int:
        """Print the summary of the record; return its number of steps, 0 where it could not be
        read.
        """
        num_steps = 0
        try:
            run = self._opened(recording)
            num_steps = len(run.steps)
            self._print_summary(recording, run, is_halted=is_halted)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self._print(translate("the summary could not be shown: {error}").format(error=text))
        return num_steps

    def _opened(self, recording: Recording) -> Run:
        from seismograd.record.reader import open_run

        assert recording.path is not None
        try:
            return open_run(recording.path)
        except Exception:
            for note in recording.failures:  # why there is nothing to open
                self._print(note.message.render())
            raise

    def _print_summary(self, recording: Recording, run: Run, *, is_halted: bool) -> None:
        from rich.console import Console

        from seismograd.cli.terminal.run_summary import print_summary
        from seismograd.diagnosis.selected_rules import selected_rules
        from seismograd.diagnosis.verdict import judge, known_verdict

        assert recording.path is not None
        for note in recording.failures:
            if note not in run.notes:
                self._print(note.message.render())
        rules = selected_rules(self._run.options.selection)
        print_summary(
            known_verdict(run, rules) or judge(run, rules),
            Console(file=sys.__stderr__),
            self._home,
            ("halted",) if is_halted else (),
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
