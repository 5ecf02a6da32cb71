"""`watch`: record and judge the training of some models and optimizers, or of the whole process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.cell_runs import CELL_RUNS, calling_cell
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.places.run_target import run_target, upload_again
from seismograd.recording import Recording
from seismograd.settings.levels import NORMAL
from seismograd.settings.option_parsing import parse_options
from seismograd.settings.resume_request import require_no_directory

if TYPE_CHECKING:
    import torch


def watch(
    *watched: torch.nn.Module | torch.optim.Optimizer,
    out: str | Path | None = None,
    elements: Sequence[str] = (),
    level: str = NORMAL,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    halt_on: Sequence[str] = (),
    budget: float | None = None,
    replay: bool = True,
    sync: float | None = None,
    max_size: str | None = None,
    keep: str | None = None,
    quiet: bool = False,
    guard: bool = False,
    snapshot: Sequence[str] = (),
    to: Sequence[str] = (),
    every: int = 1,
    resume: str | Path | None = None,
    spool: str | Path | None = None,
    upload_wait: float | None = None,
) -> Recording:
    """Record and judge the gradients of a training loop, from here until `close` (or the end of the
    `with` block, or of the process).

        with seismograd.watch(model, optimizer, out="runs/first") as session:
            train()

    Args:
        watched: the models and optimizers to listen to, in any order; without any, all that the
            process makes.
        out: the directory of the record, new or empty; default `runs/<UTC time>-<script name>/`. Of
            several processes that train together rank 0 writes it; each of them calls this. Or the
            URL of a place, such as `"s3://bucket/runs/first"`, to which the record is sent while it
            is written.
        elements: single scalars to record at every step, such as `"fc1.weight[0,0]"`.
        every: measure gradients and updates at every so many steps of each optimizer, beside its
            first ten; calls and losses are recorded at every step all the same.
        level: `"normal"`, or `"light"` to leave out the sampled statistics (histogram, dead rows,
            weight norms, signals of modules), or `"deep"` to sample the signals of modules every 10
            steps.
        select: only these rules: codes, beginnings of codes, or names.
        ignore: leave these rules out.
        halt_on: stop the training with `TrainingHalted` at a finding of these rules, or at any that
            is an `"error"`; before the update is made where the rule knows it in time, leaving the
            gradients in the record.
        budget: the share of wall time that watching may take before it measures less, such as
            `0.01`; whether gradients are finite is checked at every step all the same. Default
            0.02, with half a millisecond a step and the first half minute free.
        replay: call a model once more, before the update, when a loss or a gradient is not finite,
            to find the operation, its line and the samples; everything is put back to what it was.
        sync: seconds after which what was written must be on the disk, so that the record survives
            a power cut too; default: the operating system decides.
        max_size: record no more steps once the record has this size, such as `"2GB"`; the rules go
            on, and what is left out is counted.
        keep: `"raw=10000"` keeps the raw values of the last so many steps and around findings
            only; of all others what a picture needs stays. Default `"raw=all"`.
        quiet: print nothing at the end; else a line on stderr says where the record is and what was
            found.
        guard: leave out an update whose gradients are not finite or have exploded: they are
            cleared, and that optimizer's step is not made. It changes the training.
        snapshot: when to keep whole gradients in the record: `"every=100"`, `"step=12"`,
            `"on-finding"`; with `"weights"` also the weights, with `"batch"` also what the model
            was called with at a finding. `"keep=8"` of the regular ones stay, `"limit=4"` GiB.
        to: send the numbers of each step and the findings to trackers as well: `"wandb"`,
            `"tensorboard:DIR"`, `"jsonl:PATH"`, `"mlflow"`, `"trackio"`, `"swanlab"`,
            `"prometheus:PORT"`, or one that another package adds.
        resume: the directory of a record that goes on, in place of `out`, at the step of the
            checkpoint that the training loads; `"RUN@1000"` says which step that is. Not needed
            where the checkpoint holds `state_dict()` of the recording and gives it back to
            `load_state_dict`.
        spool: the directory in which a record that goes to a place is written, by its name there;
            default `runs`.
        upload_wait: how many seconds `close` waits at most until all of it is at the place; the
            upload goes on without the program. Default 30.

    In a notebook, running a cell again ends the recording that its `watch` began before, and
    records beside it: `out-2` and so on.

    Raises:
        SeismogradError: `out` is not empty or cannot be written, there is no record to go on in, an
            element or the level is not
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
    options = parse_options(
        elements=elements,
        level=level,
        select=select,
        ignore=ignore,
        halt_on=halt_on,
        budget=budget,
        replay=replay,
        sync=sync,
        max_size=max_size,
        keep=keep,
        guard=guard,
        snapshot=snapshot,
        to=to,
        every=every,
        resume=resume,
    )
    require_no_directory(options.resume, out)
    target = run_target(out, spool, upload_wait)
    if options.resume is not None:
        from seismograd.record.resuming import resumable

        resumable(options.resume.path)
    from seismograd.capture.names.zero_optimizer import zero_classes
    from seismograd.distributed.world import rank_of_this_process

    kinds = (torch.optim.Optimizer, *zero_classes())
    models = [w for w in watched if isinstance(w, torch.nn.Module)]
    optimizers = [w for w in watched if not isinstance(w, torch.nn.Module)]
    for thing in optimizers:
        if not isinstance(thing, kinds):
            raise TypeError(f"watch() takes modules and optimizers, not {type(thing).__name__}")

    cell = calling_cell(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
    number = 1 if cell is None else CELL_RUNS.begin(cell)
    script = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    path, upload = None, None
    if rank_of_this_process() == 0:
        path, upload = (
            (target if number == 1 else target.ending_with(f"-{number}")).begin(script)
            if options.resume is None
            else (options.resume.path, upload_again(options.resume.path, upload_wait))
        )
    recording = Recording(
        path,
        script,
        models,
        optimizers,
        options,
        prints_summary=not quiet,
        upload=upload,
        base=target.base(script) if path is None else None,
    )
    if cell is not None:
        CELL_RUNS.keep(cell, recording)
    return recording
