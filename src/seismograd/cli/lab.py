"""`seismograd lab`: run an experiment that answers by measuring."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.completion import experiments
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say


def lab(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help=mark(
                "The experiment to run. Without a name, or with list, all experiments are listed."
            ),
            autocompletion=experiments,
        ),
    ] = "list",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=mark(
                "Write the result to a file: .html for the page, .svg or .png for its charts."
            ),
        ),
    ] = None,
) -> None:
    """Run an experiment that shows what gradients do; its numbers are measured there and then."""
    from seismograd.cli.terminal import output
    from seismograd.lab.drawing import page_output as files
    from seismograd.lab.drawing import page_terminal
    from seismograd.lab.experiments import EXPERIMENTS, find_experiment

    if name.lower() == "list":
        output.answer(page_terminal.listing(EXPERIMENTS))
        output.suggest(f"seismograd lab {EXPERIMENTS[0].name}")
        return
    experiment = find_experiment(name)
    if out is not None:
        files.check(out)
    if importlib.util.find_spec("torch") is None:
        raise SeismogradError(
            say("an experiment needs PyTorch, which is not installed"), say("pip install torch")
        )
    page = experiment.run()
    if out is None:
        output.answer(page_terminal.render(page))
    else:
        files.write(page, out)
        output.answer(str(out))
    following = EXPERIMENTS[(EXPERIMENTS.index(experiment) + 1) % len(EXPERIMENTS)]
    output.suggest(f"seismograd lab {following.name}")
