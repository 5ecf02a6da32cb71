"""Find the run that a user means: a path, the beginning of a name in `runs/`, or none at all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.completion import recorded_runs
from seismograd.cli.fetched_runs import fetched_run
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate
from seismograd.record.run_directory import RUNS

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help=mark(
            "The directory of a run, the beginning of its name in runs/, or its URL, such as "
            "s3://bucket/runs/first (default: the newest run)."
        ),
        show_default=False,
        autocompletion=recorded_runs,
    ),
]
_MOST_NAMED = 3


def chosen_run(given: str | None) -> Path:
    """Return the directory of the run; which one it is is said on stderr where it was not given.
    That of an URL is fetched.

    Raises:
        SeismogradError: there is no run, or several have names that begin like this.
    """
    if given is None:
        newest = newest_runs(1)[0]
        print(translate("run: {path}").format(path=newest), file=sys.stderr)
        return newest
    fetched = fetched_run(given)
    if fetched is not None:
        return fetched
    path = Path(given)
    return path if path.exists() else named_like(path) or path


def newest_runs(number: int) -> list[Path]:
    """Return the newest runs in `runs/`, the newest first.

    Raises:
        SeismogradError: there are not so many.
    """
    from seismograd.views.run_list import find_runs

    found = [each.path for each in find_runs(Path(RUNS)) if each.run is not None]
    if len(found) < number:
        raise SeismogradError(
            say("there is no run in {directory}", directory=RUNS)
            if not found
            else say(
                "there are fewer than {number} runs in {directory}", number=number, directory=RUNS
            ),
            say("record one with: seismograd run train.py"),
        )
    return found[:number]


def named_like(given: Path) -> Path | None:
    """Return the only run whose name begins like this, in `runs/` or in the folder that was given;
    `None` where there is none.

    Raises:
        SeismogradError: there are several.
    """
    from seismograd.record.compatibility import is_run

    folders = [given.parent] if given.parent != Path() else [Path(RUNS), Path()]
    for folder in folders:
        if not folder.is_dir():
            continue
        found = sorted(
            path for path in folder.iterdir() if path.name.startswith(given.name) and is_run(path)
        )
        exact = [path for path in found if path.name == given.name]
        if len(found) == 1 or exact:
            return (exact or found)[0]
        if found:
            names = [path.name for path in reversed(found)]
            more = ", …" if len(names) > _MOST_NAMED else ""
            raise SeismogradError(
                say("several runs have names that begin with {name}", name=given.name),
                say("write more of one: {names}", names=", ".join(names[:_MOST_NAMED]) + more),
            )
    return None
