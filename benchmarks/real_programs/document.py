"""The table of docs/real_programs.md."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.real_programs.comparing import Verdict
from benchmarks.real_programs.programs import Program, command_of

BEGIN = "<!-- programs: made by benchmarks/real_programs -->"
END = "<!-- end of programs -->"
_HEAD = (
    "| program | version | command | same bits | steps | names | norms, rates | findings |",
    "|---|---|---|---|---|---|---|---|",
)


def row(program: Program, verdict: Verdict) -> str:
    """A program as a row of the table."""
    steps = f"{verdict.num_recorded:,} / {verdict.num_steps:,}"
    norms = _or(f"{verdict.num_norms:,} right", verdict.norms)
    cells = (
        program.name,
        _version(program),
        f"`{command_of(program)}`",
        _or("yes", verdict.differences),
        steps if verdict.num_recorded == verdict.num_steps else f"**{steps}**",
        _or(f"{verdict.num_parameters} right", verdict.names),
        norms if verdict.num_norms or verdict.norms else "cannot be seen from outside",
        _findings(program, verdict),
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def write(document: Path, rows: list[str]) -> None:
    """Put the table, and what it was made with, between its marks."""
    python = f"Python {platform.python_version()}"
    made_with = f"{len(rows)} programs; torch {version('torch')}, {python}, CPUs, one thread.\n"
    before, rest = document.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    lines = (BEGIN, made_with, *_HEAD, *rows, END)
    document.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def rows_of(document: Path) -> dict[str, str]:
    """The rows that are there, by the name of their program."""
    table = document.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and line not in _HEAD]
    return {line.removeprefix("| ").split(" | ")[0]: line for line in lines}


def _version(program: Program) -> str:
    versions = [f"{package} {version(package)}" for package in program.packages]
    source = program.source
    if source is not None:
        place = f"{source.url}/tree/{source.commit}/{program.folder}".rstrip("/")
        versions.insert(0, f"[{source.name} {source.commit[:7]}]({place})")
    return ", ".join(versions)


def _or(right: str, wrong: tuple[str, ...]) -> str:
    """What is right; or in bold the first thing that is not, and how many more."""
    if not wrong:
        return right
    return f"**{wrong[0]}**" + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")


def _findings(program: Program, verdict: Verdict) -> str:
    said: list[str] = []
    for code, severity in verdict.findings:
        why = program.true_findings.get(code)
        said.append(f"{code}, {severity}: {why}" if why else f"**{code}, {severity}**")
    said += [f"**failure: {note}**" for note in verdict.notes]
    return "; ".join(said) or "none"
