"""Two runs of a program against each other, and the record against what the observer saw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import seismograd
from benchmarks.real_programs.programs import Program
from benchmarks.real_programs.running import Line, Outcome
from benchmarks.real_programs.truth import Truth, truth_of
from seismograd.schema import Parameter

CLOSE = 2e-6  # the record keeps the applied norm in single precision


@dataclass(frozen=True)
class Verdict:
    """What came out of a program; tuples of strings say what is wrong."""

    differences: tuple[str, ...]
    """Between plain and watched."""
    num_steps: int
    """Iterations that were made."""
    num_recorded: int = 0
    names: tuple[str, ...] = ()
    num_parameters: int = 0
    norms: tuple[str, ...] = ()
    """Applied norms and learning rates."""
    num_norms: int = 0
    """How many applied norms were held against those seen."""
    findings: tuple[tuple[str, str], ...] = ()
    """Code and severity."""
    notes: tuple[str, ...] = ()
    """Failures of seismograd itself."""


def compare(program: Program, plain: Outcome, watched: Outcome, record: Path) -> Verdict:
    """What is not the same, and what of the record is not right."""
    differences = tuple(_differences(program, plain, watched))
    truth = truth_of(program, plain)
    try:
        run = seismograd.open_run(record)
    except seismograd.SeismogradError:
        return Verdict(differences, truth.num_steps, names=("no record",))
    recorded = {parameter.name for parameter in run.parameters if _is_trained(program, parameter)}
    missing = [f"{name} is missing" for name in sorted(truth.names - recorded)]
    invented = [f"{name} is none" for name in sorted(recorded - truth.names)]
    norms, num_norms = _norms(truth, run)
    return Verdict(
        differences,
        truth.num_steps,
        num_recorded=len(run.steps),
        names=(*missing, *invented),
        num_parameters=len(recorded),
        norms=norms,
        num_norms=num_norms,
        findings=tuple((finding.code, finding.severity) for finding in run.findings),
        notes=tuple(note.message.render() for note in run.notes if note.kind == "failure"),
    )


def _is_trained(program: Program, parameter: Parameter) -> bool:
    return parameter.optimizer is not None or bool(program.by_hand)


def _differences(program: Program, plain: Outcome, watched: Outcome) -> Iterable[str]:
    if watched.returncode is None:
        yield f"had not ended after {program.limit_s:g} s"
    elif plain.returncode != watched.returncode:
        yield f"exit code {watched.returncode}, not {plain.returncode}"
    if plain.stdout != watched.stdout:
        yield "another output"
    files = {*plain.files.items()} ^ {*watched.files.items()}
    if files:
        yield f"other files: {', '.join(sorted({name for name, _ in files}))}"
    for rank in range(program.ranks):
        for difference in _different_lines(plain.lines(rank), watched.lines(rank)):
            yield difference if program.ranks == 1 else f"{difference}, rank {rank}"


def _different_lines(plain: list[Line], watched: list[Line]) -> Iterable[str]:
    if not plain:
        yield "nothing was seen"
    first, second = (_of("step", lines) for lines in (plain, watched))
    if len(first) != len(second):
        yield f"{len(second)} steps, not {len(first)}"
    for what in ("weights", "random", "lr"):
        pairs = enumerate(zip(first, second, strict=False))
        number = next((n for n, (a, b) in pairs if a[what] != b[what]), None)
        if number is not None:
            yield f"{what} differ from step {number} on"
    if _of("end", plain) != _of("end", watched):
        yield "weights or random numbers differ at the end"


def _of(kind: str, lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def _norms(truth: Truth, run: seismograd.Run) -> tuple[tuple[str, ...], int]:
    """Applied norms and learning rates that are not those seen; how many norms were looked at."""
    wrong: list[str] = []
    num_norms = 0
    columns = {parameter.name: column for column, parameter in enumerate(run.parameters)}
    applied = run.series("applied_norm")
    for row, step in enumerate(run.steps):
        iteration, lr = int(step["iteration"]), float(step["lr"])
        if iteration >= len(truth.norms):
            break
        if not _close(lr, truth.lrs[iteration]):
            wrong.append(f"step {iteration}: lr {lr:g}, not {truth.lrs[iteration]:g}")
        for name, norm in truth.norms[iteration].items():
            if name not in columns:
                continue
            num_norms += 1
            recorded = applied[row, columns[name]]
            if not _close(recorded, norm):
                wrong.append(f"step {iteration}: {name} {recorded:.6g}, not {norm:.6g}")
    return tuple(wrong), num_norms


def _close(number: float, truth: float) -> bool:
    return math.isclose(number, truth, rel_tol=CLOSE) or (math.isnan(number) and math.isnan(truth))
