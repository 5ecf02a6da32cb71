"""`seismograd run`: run a training script, watched."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.command_entry import DeferredCommand
from seismograd.cli.launch import script_runner
from seismograd.cli.launch.watcher import Request, Watcher
from seismograd.cli.terminal.script_lines import program_line
from seismograd.distributed.world import num_restarts, rank_of_this_process
from seismograd.errors import SeismogradError, TrainingHalted
from seismograd.i18n import language, mark, say, translate, use_language
from seismograd.record.run_directory import create_run_directory
from seismograd.settings.elements import parse_element
from seismograd.settings.levels import LEVELS, NORMAL, check_budget, check_every, check_level, is_on
from seismograd.settings.project_file import IgnoreOption, SelectOption, read_settings
from seismograd.settings.record_settings import RecordSettings, check_sync, parse_size
from seismograd.settings.recording_options import RecordingOptions
from seismograd.settings.snapshot_plan import parse_snapshots
from seismograd.settings.tracker_options import parse_trackers

CONTEXT = {"allow_interspersed_args": False}  # what follows SCRIPT is the script's

ScriptArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SCRIPT", help=mark("The script to run, as with python."), show_default=False
    ),
]
ArgumentsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ARGS]...", help=mark("Arguments for the script."), show_default=False),
]
ModuleOption = Annotated[
    bool, typer.Option("-m", help=mark("SCRIPT is the name of a module, as with python -m."))
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help=mark(
            "The directory for the record, which must be new or empty. Default: runs/<UTC "
            "time>-<script name>."
        ),
    ),
]
ElementOption = Annotated[
    list[str] | None,
    typer.Option(
        "--element",
        metavar="NAME[I,J]",
        help=mark("Record this scalar at every step, such as 'fc1.weight[0,0]'. Repeatable."),
    ),
]
LevelOption = Annotated[
    str,
    typer.Option(
        "--level",
        metavar="|".join(LEVELS),
        help=mark(
            "light skips the sampled statistics; deep looks at the signals of the modules every "
            "10 steps in place of every 100."
        ),
    ),
]
EveryOption = Annotated[
    int,
    typer.Option(
        "--every",
        metavar="N",
        help=mark(
            "Measure gradients and updates at every N-th step only, beside the first ten; calls "
            "and losses are recorded at each step."
        ),
    ),
]
HaltOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--halt-on",
        metavar="error|RULES",
        help=mark(
            "Stop training on such a finding, before the update if it is found in time, and "
            "save the gradients."
        ),
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="PERCENT",
        help=mark(
            "Measure less when watching would take more than this percentage of the time. "
            "Default: 2; half a millisecond per step is not counted."
        ),
    ),
]
ReplayOption = Annotated[
    str,
    typer.Option(
        "--replay",
        metavar="on|off",
        help=mark(
            "Call the model once more when a loss or a gradient is not finite, to find the "
            "line and the samples."
        ),
    ),
]
SyncOption = Annotated[
    float | None,
    typer.Option(
        "--sync",
        metavar="SECONDS",
        help=mark(
            "Wait for the disk after so many seconds, so that the record survives a power cut "
            "too. Default: the operating system decides."
        ),
    ),
]
MaxSizeOption = Annotated[
    str | None,
    typer.Option(
        "--max-size",
        metavar="SIZE",
        help=mark(
            "Record no more steps once the record has this size, such as 2GB; the rules go on, "
            "and what is left out is counted."
        ),
    ),
]
GuardOption = Annotated[
    bool,
    typer.Option(
        "--guard",
        help=mark(
            "Leave out updates whose gradients are not finite or have exploded. This changes the "
            "training."
        ),
    ),
]
SnapshotOption = Annotated[
    list[str] | None,
    typer.Option(
        "--snapshot",
        metavar="every=N|step=N|on-finding",
        help=mark(
            "Keep whole gradients in the record; weights and batch keep those as well, keep=N and "
            "limit=GIB bound them. Repeatable."
        ),
    ),
]
ToOption = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="TRACKER",
        help=mark(
            "Send the numbers of each step and the findings there as well: jsonl[:PATH], "
            "tensorboard:DIR, wandb[:PROJECT]. Repeatable."
        ),
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help=mark("Suppress seismograd's own output."))
]


def run(
    script: ScriptArgument = None,
    arguments: ArgumentsArgument = None,
    module: ModuleOption = False,
    out: OutOption = None,
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
        record=RecordSettings(check_sync(sync), parse_size(max_size)),
        budget=_share(budget),
        replay=is_on("--replay", replay),
        snapshots=parse_snapshots(snapshot or ()),
        guard=guard,
        trackers=parse_trackers(to or ()),
        every=check_every(every, guard),
    )
    if importlib.util.find_spec("torch") is None:
        raise SeismogradError(
            say("running a training script needs PyTorch, which is not installed"),
            say("pip install torch"),
        )
    options = replace(
        options,
        elements=tuple(parse_element(text) for text in element or ()),
        selection=read_settings().selection(select, ignore, halt_on),
    )
    program = None if module else script_runner.load_script(script)
    path = create_run_directory(_again(out), script) if rank_of_this_process() == 0 else None
    return ScriptRun(
        Request(
            script,
            tuple(arguments or ()),
            program,
            path,
            options,
            quiet,
            language(),
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


def _again(out: Path | None) -> Path | None:
    """Return the requested directory; when torchrun has restarted the processes, one beside it: the
    first attempt stays.
    """
    return (
        out
        if out is None or num_restarts() == 0
        else out.with_name(f"{out.name}-restart-{num_restarts()}")
    )


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
            return 1
        except BaseException as error:
            watcher.ended_by(error)
            if not isinstance(error, SystemExit):
                script_runner.hide_from_traceback()
            raise
        return 0
