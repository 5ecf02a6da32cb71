"""A run says how its script ended, and which of the requested elements it could not record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from seismograd.program_ending import ending_note
from seismograd.record.reader import Run, open_run
from seismograd.views.run_condition import end_code
from tests.cli.test_commands import surroundings

pytest.importorskip("torch")

TRAINING = """
import sys, time, torch
model = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.01)
def step():
    opt.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    opt.step()
for _ in range(12):
    step()
"""


def run_script(
    folder: Path, ending: str, *options: str, watched_inside: bool = False
) -> tuple[Run, subprocess.CompletedProcess[str]]:
    script = folder / "train.py"
    inside = "import seismograd\nseismograd.watch(out='run')\n" if watched_inside else ""
    script.write_text(inside + TRAINING + textwrap.dedent(ending), encoding="utf-8")
    command = [sys.executable]
    if not watched_inside:
        command += ["-m", "seismograd", "run", "--out", "run", *options]
    done = subprocess.run(
        [*command, "train.py"],
        cwd=folder,
        env=surroundings(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return open_run(folder / "run"), done


@pytest.mark.parametrize("inside", [False, pytest.param(True, marks=pytest.mark.extended)])
@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        ("raise ValueError('a password')", "crashed", "it raised ValueError"),
        pytest.param(
            "raise KeyboardInterrupt", "interrupted", "interrupted", marks=pytest.mark.extended
        ),
        pytest.param("", "complete", "", marks=pytest.mark.extended),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    pass\nsys.exit(0)", "complete", ""),
    ],
)
def test_a_run_says_how_its_script_ended(
    tmp_path: Path, inside: bool, ending: str, code: str, words: str
) -> None:
    run, _ = run_script(tmp_path, ending, watched_inside=inside)
    assert end_code(run) == code
    said = " ".join(note.message.render() for note in run.notes)
    assert words in said
    assert "password" not in said
    assert len(run.steps) == 12


def test_an_exit_code_of_the_script_is_said(tmp_path: Path) -> None:
    run, done = run_script(tmp_path, "sys.exit(3)")
    assert (end_code(run), done.returncode) == ("failed", 3)
    assert "the script exited with code 3" in done.stderr


def test_an_exit_code_may_be_a_truth_value() -> None:
    note = ending_note(SystemExit(True))
    assert note is not None
    assert note.message.render() == "the script exited with code 1"
    assert ending_note(SystemExit(False)) is None


def test_a_with_block_that_an_exception_left_is_a_crash(tmp_path: Path) -> None:
    import torch

    import seismograd

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        with seismograd.watch(model, optimizer, out=tmp_path / "run"):
            model(torch.ones(3, 2)).sum().backward()
            optimizer.step()
            raise RuntimeError("the user's")

    with pytest.raises(RuntimeError, match="the user's"):
        train()
    assert end_code(open_run(tmp_path / "run")) == "crashed"


@pytest.mark.extended  # test_as_python.py has one
def test_ctrl_c_is_told_from_a_crash(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    # a shell starts what goes on in the background with SIGINT ignored, which is inherited
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    waiting = "print('up', flush=True)\ntime.sleep(60)\n"
    script.write_text(heard + TRAINING + waiting, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "seismograd", "run", "--out", "run", "train.py"],
        cwd=tmp_path,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=50)
    assert time.monotonic() - began < 50
    assert end_code(open_run(tmp_path / "run")) == "interrupted"


def test_an_element_of_a_parameter_that_does_not_exist_is_an_error_line(tmp_path: Path) -> None:
    run, done = run_script(
        tmp_path, "", "--element", "wieght[0,0]", "--element", "weight[0,1]", "--element", "bias[0]"
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "wieght[0,0] was not recorded" in lines[0]
    names, values = run.elements
    assert names == ("wieght[0,0]", "weight[0,1]", "bias[0]")
    assert (values[:, 0] != values[:, 0]).all()
    assert (values[:, 1:] == values[:, 1:]).all()
    checked = subprocess.run(
        [sys.executable, "-m", "seismograd", "check", "run", "--format", "json"],
        cwd=tmp_path,
        env=surroundings(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    json.loads(checked.stdout)
    assert "error: wieght[0,0] was not recorded" in checked.stderr
