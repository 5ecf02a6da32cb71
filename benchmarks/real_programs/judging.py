"""A program from its two runs to the verdict."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from benchmarks.real_programs.comparing import Verdict, compare
from benchmarks.real_programs.programs import Program
from benchmarks.real_programs.running import run_plain, run_watched


def judge(program: Program, sources: Path, keep: Path | None = None) -> Verdict:
    """Run it both ways and compare.

    Raises:
        RuntimeError: it fails without seismograd.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if keep is not None:
            scratch = keep / program.name.replace(" ", "-").replace(",", "")
            scratch.mkdir(parents=True)
        plain = run_plain(program, sources, scratch)
        if plain.returncode != 0:
            ended = f"{program.name} ends with {plain.returncode} without seismograd"
            raise RuntimeError(f"{ended}:\n{plain.stderr[-4000:]}")
        watched, record = run_watched(program, sources, scratch)
        return compare(program, plain, watched, record)


def is_right(program: Program, verdict: Verdict) -> bool:
    """Whether everything is as it must be."""
    unexpected = [code for code, _ in verdict.findings if code not in program.true_findings]
    wrong = (*verdict.differences, *verdict.names, *verdict.norms, *verdict.notes, *unexpected)
    return not wrong and verdict.num_recorded == verdict.num_steps


def missing_packages(program: Program) -> list[str]:
    """What has to be installed before it can run."""
    wanted = (*program.packages, *program.needs)
    return [name for name in wanted if importlib.util.find_spec(name) is None]
