"""`seismograd completion`: print what a shell needs to complete commands, options and runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from seismograd.cli.terminal.usage_errors import one_of
from seismograd.i18n import mark

PROGRAM = "seismograd"
VARIABLE = "_SEISMOGRAD_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")
_MOST_RUNS = 100


def shells(incomplete: str) -> list[str]:
    """Return the shells whose names begin like this."""
    return _beginning(SHELLS, incomplete)


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="|".join(SHELLS),
            help=mark("The shell to complete in."),
            autocompletion=shells,
        ),
    ],
) -> None:
    """Print the script that a shell runs at its start."""
    one_of("SHELL", shell, SHELLS)
    typer_completion: Any = import_module("typer.completion")
    print(
        typer_completion.get_completion_script(
            prog_name=PROGRAM, complete_var=VARIABLE, shell=shell
        )
    )


def prepare() -> None:
    """Teach the argument parser the shells, where a shell is asking; it answers by itself then."""
    if VARIABLE in os.environ:
        typer_completion: Any = import_module("typer.completion")
        typer_completion.completion_init()


def rule_codes(incomplete: str) -> list[str]:
    """Return the codes and names of rules that begin like this."""
    from seismograd.settings.rule_table import RULE_TABLE

    names = [name for name, _ in RULE_TABLE.values()]
    return _beginning([*RULE_TABLE, *names], incomplete)


def experiments(incomplete: str) -> list[str]:
    """Return the names of experiments that begin like this."""
    from seismograd.lab.experiments import EXPERIMENTS

    return _beginning([each.name for each in EXPERIMENTS], incomplete)


def recorded_runs(incomplete: str) -> list[str]:
    """Return the names of runs in `runs/` that begin like this, the newest first; where there are
    none, folders of that name.
    """
    from seismograd.record.run_directory import RUNS

    typed, slash, beginning = incomplete.rpartition(os.sep)
    try:
        folder = Path(typed + slash if slash else RUNS)
        names = sorted((each.name for each in folder.iterdir() if each.is_dir()), reverse=True)
    except OSError:
        return []
    return [typed + slash + name for name in _beginning(names, beginning)[:_MOST_RUNS]]


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
