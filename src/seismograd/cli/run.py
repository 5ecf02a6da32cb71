"""`seismograd run`: run a training script, watched."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seismograd.children import Child
from seismograd.choice import Choice
from seismograd.cli import launch
from seismograd.cli.entry import Plan
from seismograd.cli.settings import IgnoreOption, SelectOption, read_settings
from seismograd.elements import parse_element
from seismograd.errors import SeismogradError, TrainingHalted
from seismograd.i18n import Message, language, mark, say, translate, use_language
from seismograd.imports import when_imported
from seismograd.levels import LEVELS, NORMAL, check_budget, check_level
from seismograd.listen.ranks.world import num_restarts, rank_of_this_process
from seismograd.record.place import create_run_directory

if TYPE_CHECKING:
    from seismograd.schema import Finding, Sink
    from seismograd.wiring import Recording

CONTEXT = {"allow_interspersed_args": False}  # what follows SCRIPT is the script's


def run(
    script: Annotated[
        str | None, typer.Argument(metavar="SCRIPT", help=mark("The script to run, as python would."), show_default=False)
    ] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help=mark("Its own arguments."), show_default=False)] = None,
    module: Annotated[bool, typer.Option("-m", help=mark("SCRIPT is the name of a module, as for python -m."))] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help=mark("Where the record goes: a new or empty directory. Default: runs/<UTC time>-<script name>."),
        ),
    ] = None,
    element: Annotated[
        list[str] | None,
        typer.Option(
            "--element", metavar="NAME[I,J]", help=mark("Record this scalar at every step, such as 'fc1.weight[0,0]'. Repeatable.")
        ),
    ] = None,
    level: Annotated[
        str, typer.Option("--level", metavar="|".join(LEVELS), help=mark("light leaves out the sampled statistics."))
    ] = NORMAL,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    halt_on: Annotated[
        list[str] | None,
        typer.Option(
            "--halt-on",
            metavar="error|RULES",
            help=mark("Stop the training at such a finding, before the update where that is known in time, and keep its gradients."),
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="PERCENT",
            help=mark("Measure less before watching takes more of the time. Default 2, with half a millisecond a step free."),
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help=mark("Print nothing of seismograd's own."))] = False,
) -> Plan:
    """Run a training script, watched; its output, exit code and numbers are its own."""
    if script is None:
        raise SeismogradError(say("there is no script to run"), say("seismograd run train.py"))
    check_level(level)
    share = _share(budget)
    if importlib.util.find_spec("torch") is None:
        raise SeismogradError(say("running a training script needs PyTorch, which is not installed"), say("pip install torch"))
    elements = tuple(str(parse_element(text)) for text in element or ())
    choice = read_settings().choice(select, ignore, halt_on)
    program = None if module else launch.load_script(script)
    path = create_run_directory(_again(out), script) if rank_of_this_process() == 0 else None
    return Run(script, tuple(arguments or ()), program, path, elements, level, choice, quiet, language(), share)


def _share(percent: str | None) -> float | None:
    """What `--budget` says, as a share of the time."""
    if percent is None:
        return None
    try:
        return check_budget(float(percent.removesuffix("%")) / 100)
    except (ValueError, SeismogradError):
        raise SeismogradError(say("--budget needs a number of per cent, not {text}", text=repr(percent)), say("such as 2")) from None


def _again(out: Path | None) -> Path | None:
    """The directory that was asked for; when torchrun has started the processes again, one beside it: the first attempt stays."""
    return out if out is None or num_restarts() == 0 else out.with_name(f"{out.name}-restart-{num_restarts()}")


@dataclass(frozen=True, slots=True)
class Run:
    """A script that is ready to run. `program` is None for a module, which is found only when its turn has come; `path` in a
    process other than rank 0, which does not record but tells rank 0."""

    target: str
    arguments: Sequence[str]
    program: launch.Program | None
    path: Path | None
    elements: Sequence[str]
    level: str
    choice: Choice
    quiet: bool
    lang: str
    budget: float | None = None

    def execute(self) -> int:
        """Run it. What it raises goes on to the interpreter, after the record was closed."""
        if self.program is not None:
            launch.prepare(self.program, self.program.path_entry, self.arguments, self.target)
        else:
            launch.prepare(None, str(Path.cwd()), self.arguments, "-m")
        watcher = Watcher(self)
        when_imported("torch", watcher.start)
        try:
            program = self.program
            if program is None:
                program = launch.find_module(self.target)
                launch.prepare(program, program.path_entry, self.arguments, self.target)
            launch.run_program(program)
        except SeismogradError as error:
            if self.program is not None:
                raise
            watcher.discard()
            with use_language(self.lang):
                print(translate("seismograd: {line}").format(line=error.line()), file=sys.stderr)
            return error.exit_code
        except TrainingHalted as halted:
            watcher.stop()
            watcher.summarise(told=("halted",))
            with use_language(self.lang):
                print(translate("seismograd: {line}").format(line=halted.message.render()), file=sys.__stderr__)
            return 1
        except SystemExit:
            watcher.stop()
            watcher.summarise()
            raise
        except BaseException:
            watcher.stop()
            launch.hide_from_traceback(watcher.summarise)
            raise
        watcher.stop()
        watcher.summarise()
        return 1 if watcher.would_have_halted() else 0


class Watcher:
    """Starts the recording when torch has come, ends it when the script has, and says what was found."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._home = Path.cwd()  # the script may go elsewhere
        self._recording: Recording | None = None
        self._problem: Message | None = None
        self._unfollow: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to listen. When that fails, the script runs on without us."""
        try:
            from seismograd.listen.ranks.following import follow
            from seismograd.wiring import Recording

            name = self._run.target if self._run.program is None else Path(self._run.target).name
            elements = tuple(parse_element(text) for text in self._run.elements)
            run = self._run
            self._recording = Recording(
                run.path, name, elements=elements, level=run.level, choice=run.choice, budget=run.budget, beside=self._progress()
            )
            if run.path is not None:
                self._unfollow = follow(Child(run.path, name, tuple(run.elements), run.level, run.choice, run.budget))
        except Exception as error:
            self._problem = say("could not listen, so nothing was recorded: {error}", error=f"{type(error).__name__}: {error}")

    def _progress(self) -> tuple[Sink, ...]:
        """The line at the bottom of the terminal, where there is a terminal and nobody asked for quiet."""
        from seismograd.views.progress import ProgressLine, may_show

        if self._run.quiet or self._run.path is None or sys.__stderr__ is None or not may_show(os.environ):
            return ()
        return (ProgressLine(sys.__stderr__.fileno(), self._run.lang, self._findings),)

    def _findings(self) -> tuple[Finding, ...]:
        return () if self._recording is None else self._recording.findings

    def stop(self) -> None:
        """Close the record; one that torch never came to says so."""
        self._unfollow()
        if self._recording is not None:
            self._recording.close()
        elif self._problem is None and self._run.path is not None:
            self._problem = say("the script never imported torch, so nothing was recorded")

    def discard(self) -> None:
        """Nothing was run: leave no empty directory behind."""
        if self._run.path is not None and self._recording is None:
            self._run.path.rmdir()

    def would_have_halted(self) -> bool:
        """Whether something was found that was to stop the training, though it ended before the rules had looked."""
        found = () if self._recording is None else self._recording.findings
        return any(self._run.choice.halts(finding.code, finding.severity) for finding in found)

    def summarise(self, told: Sequence[str] = ()) -> None:
        """Where the record is, the last step, the findings and the next command, on stderr; no notes of kinds `told` after it."""
        if self._run.quiet or self._run.path is None:
            return
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # pyright: ignore[reportUnnecessaryComparison]
                stream.flush()
        with use_language(self._run.lang):
            if self._recording is None:
                if self._problem is not None:
                    print(translate("seismograd: {line}").format(line=self._problem.render()), file=sys.__stderr__)
                return
            try:
                self._print_summary(self._recording, told)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                print(translate("seismograd: the summary could not be shown: {error}").format(error=text), file=sys.__stderr__)

    def _print_summary(self, recording: Recording, told: Sequence[str]) -> None:
        from rich.console import Console

        from seismograd.record.reader import open_run
        from seismograd.rules.chosen import chosen
        from seismograd.rules.engine import diagnose
        from seismograd.views.summary import print_summary

        assert recording.path is not None
        run = open_run(recording.path)
        for note in recording.failures:
            if note not in run.notes:
                print(translate("seismograd: {line}").format(line=note.message.render()), file=sys.__stderr__)
        diagnosis = diagnose(run.blocks(), chosen(self._run.choice), run.notes, run.facts, run.info.fact_kinds)
        print_summary(run, diagnosis.findings(), diagnosis.statuses(), Console(file=sys.__stderr__), self._home, told)
