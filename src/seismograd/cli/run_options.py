"""The arguments and options of `seismograd run`, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.i18n import mark
from seismograd.settings.levels import LEVELS

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
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR|URL",
        help=mark(
            "The directory for the record, which must be new or empty, or the URL of a place that "
            "it is sent to, such as s3://bucket/runs/first. Default: runs/<UTC time>-<script name>."
        ),
    ),
]
SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--spool",
        metavar="DIR",
        help=mark(
            "The directory in which a record that goes to the URL of a place is written. Default: "
            "runs."
        ),
    ),
]
UploadWaitOption = Annotated[
    float | None,
    typer.Option(
        "--upload-wait",
        metavar="SECONDS",
        help=mark(
            "Wait so long at most at the end until all of the record is at its place; the upload "
            "goes on by itself. Default: 30."
        ),
    ),
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="RUN[@STEP]",
        help=mark(
            "Go on in this record, at the step of the checkpoint that the script loads, or at "
            "STEP; what was recorded after it stays as a branch."
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
KeepOption = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="raw=N|all",
        help=mark(
            "Keep the raw values of the last N steps and around findings only; of all others what "
            "a picture needs stays (long records took 20 to 30% of the room). Default: raw=all."
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
            "tensorboard:DIR, wandb[:PROJECT], mlflow[:EXPERIMENT], trackio[:PROJECT], swanlab, "
            "prometheus:PORT. Repeatable."
        ),
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help=mark("Suppress seismograd's own output."))
]
