"""`seismograd pin`: write the gradients of marked tests into their golden files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate

if TYPE_CHECKING:
    from seismograd.golden.comparison import Pinned

CONTEXT = {"ignore_unknown_options": True}  # they are pytest's
PLUGIN = "seismograd.integrations.pytest_plugin"
_UNSTEADY = 0.1  # a relative difference that an ulp should not make


def pin(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TESTS]...",
            help=mark("Which tests, as for pytest, whose options are understood as well."),
            show_default=False,
        ),
    ] = None,
    runs: Annotated[
        int,
        typer.Option(
            "--runs",
            metavar="N",
            min=1,
            help=mark("How often to perturb, to measure what rounding does (default: 4)."),
        ),
    ] = 4,
) -> None:
    """Run marked tests as they are and perturbed by an ulp, and write what they pin."""
    from seismograd.cli.terminal import output

    for package in ("pytest", "torch"):
        if importlib.util.find_spec(package) is None:
            raise SeismogradError(
                say("pinning gradients needs {package}, which is not installed", package=package),
                say("pip install {package}", package=package),
            )
    from seismograd.golden.taken_fingerprints import kept_fingerprints
    from seismograd.golden.taken_fingerprints import pin as pin_test
    from seismograd.views.values import short_path

    with tempfile.TemporaryDirectory(prefix="seismograd-pin-") as folder:
        # A process each: a test may leave anything behind.
        taken = [
            kept_fingerprints(_tested(Path(folder) / str(seed), seed, arguments or []))
            for seed in range(runs + 1)
        ]
        if not taken[0]:
            raise SeismogradError(
                say("no test that pins gradients has run"),
                say('mark one with @pytest.mark.gradients(golden="small.json")'),
            )
        for test in taken[0]:
            pinned = pin_test(test, [each for run in taken[1:] for each in run])
            output.answer(
                say(
                    "wrote {path}: {steps} {num:step|steps}, {parameters} parameters",
                    path=short_path(test.golden),
                    steps=pinned.fingerprint.num_steps,
                    num=pinned.fingerprint.num_steps,
                    parameters=len(pinned.fingerprint.parameters),
                ).render()
            )
            _tell_unsteady(pinned)


def _tested(directory: Path, seed: int, arguments: list[str]) -> Path:
    """Run pytest, perturbed where the seed is not 0, and return where the fingerprints are.

    Raises:
        SeismogradError: a test failed.
    """
    directory.mkdir()
    # By its module, whether or not its entry point is loaded.
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:seismograd", "-p", PLUGIN]
    line += [f"--gradients-to={directory}", f"--gradients-ulp={seed}", *arguments]
    ran = subprocess.run(line, capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode:
        print(ran.stdout + ran.stderr, end="", file=sys.stderr)
        raise SeismogradError(
            say("pytest ended with {code}: nothing is pinned", code=ran.returncode)
            if not seed
            else say(
                "pytest ended with {code} when numbers were perturbed by an ulp: nothing is pinned",
                code=ran.returncode,
            ),
            exit_code=1,
        )
    return directory


def _tell_unsteady(pinned: Pinned) -> None:
    """Say so where half of the gradients are not the same twice: then little is pinned."""
    import numpy as np

    from seismograd.cli.terminal import output

    middle = np.median(pinned.allowed["norm"], axis=1)
    unsteady = np.flatnonzero(middle > _UNSTEADY)
    if len(unsteady):
        output.print_note(
            translate(
                "from step {step} on an ulp changes gradients by more than {share}%: is all seeded "
                "that is random? Else pin fewer steps"
            ).format(step=unsteady[0], share=round(100 * _UNSTEADY))
        )
