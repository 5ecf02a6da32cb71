"""A shell completes commands, options, rules, experiments and recorded runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seismograd.cli import main
from seismograd.cli.completion import SHELLS
from tests.synthetic import write_run

BASH = shutil.which("bash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "20260101T120000Z-train", [])
    write_run(tmp_path / "runs" / "20260102T120000Z-train", [])
    return tmp_path


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word, by the script that the command prints."""
    program = folder / "seismograd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m seismograd "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = (
        f'eval "$({program} completion bash)"; COMP_WORDS=({" ".join(words)!s}); '
        f"COMP_CWORD={len(words) - 1}; _seismograd_completion {program}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert BASH is not None
    done = subprocess.run(
        [BASH, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("seismograd", "exp"), ["explain", "export"]),
        (("seismograd", "check", "--fail"), ["--fail-on"]),
        (("seismograd", "explain", "SG60"), ["SG601", "SG602"]),
        (("seismograd", "explain", "vanish"), ["vanishing-gradient"]),
        (("seismograd", "lab", "cl"), ["clipping"]),
        (("seismograd", "completion", "z"), ["zsh"]),
        (("seismograd", "check", "2026"), ["20260102T120000Z-train", "20260101T120000Z-train"]),
        (("seismograd", "show", "runs/20260101"), ["runs/20260101T120000Z-train"]),
        (("seismograd", "check", "nothing"), []),
    ],
)
def test_bash_completes(folder: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert completed(folder, *words) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_for_every_shell(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr()
    assert "_SEISMOGRAD_COMPLETE" in printed.out
    assert printed.err == ""


def test_an_unknown_shell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "en", "completion", "tcsh"]) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        "seismograd: SHELL does not accept 'tcsh' · use one of: bash, zsh, fish, powershell\n"
    )
