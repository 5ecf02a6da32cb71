"""`seismograd run`: run a training script, watched."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from seismograd.cli.command_entry import DeferredCommand
from seismograd.cli.launch import script_runner
from seismograd.cli.launch.request import Request
from seismograd.cli.launch.watcher import Watcher
from seismograd.cli.run_options import (
    ArgumentsArgument,
    BudgetOption,
    ElementOption,
    EveryOption,
    GuardOption,
    HaltOnOption,
    KeepOption,
    LevelOption,
    MaxSizeOption,
    ModuleOption,
    OutOption,
    QuietOption,
    ReplayOption,
    ResumeOption,
    ScriptArgument,
    SnapshotOption,
    SpoolOption,
    SyncOption,
    ToOption,
    UploadWaitOption,
)
from seismograd.cli.terminal.script_lines import program_line
from seismograd.distributed.world import num_restarts, rank_of_this_process
from seismograd.errors import SeismogradError, TrainingHalted
from seismograd.i18n import language, say, translate, use_language
from seismograd.record.places.run_target import run_target, upload_again
from seismograd.settings.elements import parse_element
from seismograd.settings.levels import NORMAL, check_budget, check_every, check_level, is_on
from seismograd.settings.project_file import IgnoreOption, SelectOption, read_settings
from seismograd.settings.record_settings import RecordSettings, check_sync, parse_keep, parse_size
from seismograd.settings.recording_options import RecordingOptions
from seismograd.settings.resume_request import parse_resume, require_no_directory
from seismograd.settings.snapshot_plan import parse_snapshots
from seismograd.settings.tracker_options import parse_trackers

CONTEXT = {"allow_interspersed_args": False}  # what follows SCRIPT is the script's


def run(
    script: ScriptArgument = None,
    arguments: ArgumentsArgument = None,
    module: ModuleOption = False,
    out: OutOption = None,
    spool: SpoolOption = None,
    upload_wait: UploadWaitOption = None,
    resume: ResumeOption = None,
    element: ElementOption = None,
    level: LevelOption = NORMAL,
    every: EveryOption = 1,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    halt_on: HaltOnOption = None,
    budget: BudgetOption = None,
    replay: ReplayOption = "on",
    sync: SyncOption = None,
    max_size: MaxSizeOption = None,
    keep: KeepOption = None,
    guard: GuardOption = False,
    snapshot: SnapshotOption = None,
    to: ToOption = None,
    quiet: QuietOption = False,
) -> DeferredCommand:
    """Run a training script, watched; its output, exit code and numbers are its own."""
    if script is None:
        raise SeismogradError(say("no script was given"), say("seismograd run train.py"))
    line = None if module or Path(script).exists() else program_line((script, *(arguments or ())))
    if line is not None:
        raise SeismogradError(
            say("{name} is a program that runs scripts, not a script", name=script),
            say("did you mean {line}?", line=line),
        )
    options = RecordingOptions(
        level=check_level(level),
        record=RecordSettings(check_sync(sync), parse_size(max_size), parse_keep(keep)),
        budget=_share(budget),
        replay=is_on("--replay", replay),
        snapshots=parse_snapshots(snapshot or ()),
        guard=guard,
        trackers=parse_trackers(to or ()),
        every=check_every(every, guard),
        resume=parse_resume(resume),
    )
    require_no_directory(options.resume, out)
    if importlib.util.find_spec("torch") is None:
        raise SeismogradError(
            say("running a training script needs PyTorch, which is not installed"),
            say("pip install torch"),
        )
    settings = read_settings()
    options = replace(
        options,
        elements=tuple(parse_element(text) for text in element or ()),
        selection=settings.selection(select, ignore, halt_on),
    )
    target = run_target(out, spool, upload_wait, settings.out)
    if num_restarts():  # of torchrun: the first attempt stays
        target = target.ending_with(f"-restart-{num_restarts()}")
    program = None if module else script_runner.load_script(script)
    path, upload = None, None
    if rank_of_this_process() == 0:
        path, upload = (
            target.begin(script, starts_others=True)
            if options.resume is None
            else (options.resume.path, upload_again(options.resume.path, upload_wait))
        )
        base = path
    else:
        base = target.base(script) if options.resume is None else options.resume.path
    return ScriptRun(
        Request(
            script,
            tuple(arguments or ()),
            program,
            path,
            options,
            quiet,
            language(),
            base,
            upload,
        )
    )


def _share(percent: str | None) -> float | None:
    """Return the value of `--budget` as a share of the time."""
    if percent is None:
        return None
    try:
        return check_budget(float(percent.removesuffix("%")) / 100)
    except (ValueError, SeismogradError):
        raise SeismogradError(
            say("--budget needs a percentage, not {text}", text=repr(percent)),
            say("for example 2"),
        ) from None


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """A script that is ready to run."""

    request: Request

    def execute(self) -> int:
        """Run it. Its exceptions go on to the interpreter; the record is closed at its exit."""
        request = self.request
        if request.program is not None:
            script_runner.prepare(
                request.program, request.program.path_entry, request.arguments, request.target
            )
        else:
            script_runner.prepare(None, str(Path.cwd()), request.arguments, "-m")
        watcher = Watcher(request)
        watcher.listen()
        program = request.program
        if program is None:
            try:
                program = script_runner.find_module(request.target)
            except SeismogradError as error:
                watcher.discard()
                with use_language(request.lang):
                    print(
                        translate("seismograd: {line}").format(line=error.line()), file=sys.stderr
                    )
                return error.exit_code
            script_runner.prepare(program, program.path_entry, request.arguments, request.target)
        try:
            script_runner.run_program(program)
        except TrainingHalted as halted:
            watcher.halted = halted
            return halted.exit_code
        except BaseException as error:
            watcher.ended_by(error)
            if not isinstance(error, SystemExit):
                script_runner.hide_from_traceback()
            raise
        return 0
