"""The recipes of CONTRIBUTING are carried out as they are written, in a copy of the package, and
what they add works.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seismograd

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TRAINING = """\
import seismograd, torch
model = torch.nn.Linear(3, 2)
with torch.no_grad():
    model.weight.fill_(1.0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with seismograd.watch(model, optimizer, out="run"):
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
"""


def blocks(title: str) -> list[tuple[str, str]]:
    """The blocks of code below a heading: the language, and what is in it."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", CONTRIBUTING, re.DOTALL | re.MULTILINE)
    assert section is not None
    return re.findall(r"^```(\w+)\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)


def changed(source: str, hunk: str) -> str:
    """The source after the change: what the hunk shows must stand in it once."""
    lines = hunk.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    places = re.findall(rf"^{re.escape(old)}", source, re.MULTILINE)
    assert len(places) == 1, f"{len(places)} places for\n{old}"
    return re.sub(rf"^{re.escape(old)}", lambda _: new, source, flags=re.MULTILINE)


def carry_out(title: str, root: Path) -> None:
    """Do what the recipe says to a copy of the package below `root`."""
    package = Path(seismograd.__file__).parent
    # Without the kernels a new statistic is measured by the reference, as the recipe says.
    shutil.copytree(
        package,
        root / "src" / "seismograd",
        ignore=shutil.ignore_patterns("__pycache__", "*.so", "mnist"),
    )
    steps = blocks(title)
    assert steps
    for language, text in steps:
        head, rest = text.split("\n", 1)
        if language == "python":
            path = root / head.removeprefix("# new: ")
            assert not path.exists()
            path.write_text(rest, encoding="utf-8")
        else:
            assert language == "diff"
            path = root / head.removeprefix("# ")
            source = path.read_text(encoding="utf-8")
            for hunk in rest.split("@@\n"):
                source = changed(source, hunk)
            path.write_text(source, encoding="utf-8")


def run(root: Path, *words: str) -> str:
    """What a Python with the changed package prints."""
    path = os.pathsep.join([str(root / "src"), *(str(Path(p).resolve()) for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env=os.environ | {"PYTHONPATH": path, "LANGUAGE": "en", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def train(root: Path, then: str, training: str = TRAINING) -> str:
    """Train watched, and print what `then` gives for the run."""
    shown = f"{training}\nrun = seismograd.open_run('run')\nassert run.num_rows == 2\n"
    notes = "assert not [each for each in run.notes if each.kind == 'failure'], run.notes\n"
    return run(root, "-c", f"{shown}{notes}print({then})")


def test_a_fact(tmp_path: Path) -> None:
    carry_out("A fact", tmp_path)
    found = train(tmp_path, "[(str(each.kind), each.number('num')) for each in run.facts]")
    # every run has the settings of its groups
    assert found == "[('group_settings', nan), ('num_threads', 1.0)]"


def test_a_statistic(tmp_path: Path) -> None:
    carry_out("A statistic", tmp_path)
    rows, numbers = train(tmp_path, "*(each.tolist() for each in run.samples('positives'))").split(
        "] ", 1
    )
    assert (rows, numbers) == ("[0", "[[6.0, 2.0]]")


def test_a_view(tmp_path: Path) -> None:
    carry_out("A view", tmp_path)
    train(tmp_path, "run")
    shown = run(tmp_path, "-m", "seismograd", "check", "run", "--format", "csv")
    assert shown.splitlines()[0] == "code,severity,first_step,last_step"


def test_a_hook(tmp_path: Path) -> None:
    carry_out("A hook", tmp_path)
    training = TRAINING.replace(
        "        optimizer.step()\n", "        optimizer.step()\n        averaged(model)\n"
    )
    file = tmp_path / "train.py"
    file.write_text(
        "from torch.optim.swa_utils import AveragedModel\n"
        "before = AveragedModel.update_parameters\n"
        "def averaged(model):\n    AveragedModel(model).update_parameters(model)\n"
        f"{training}\nassert AveragedModel.update_parameters is before\n"
        "run = seismograd.open_run('run')\n"
        "assert not [each for each in run.notes if each.kind == 'failure'], run.notes\n"
        "print([site.line for site in run.sites])\n",
        encoding="utf-8",
    )
    lines = run(tmp_path, str(file))
    assert re.search(r"\b4\b", lines), lines


def test_a_command(tmp_path: Path) -> None:
    carry_out("A command", tmp_path)
    train(tmp_path, "run")
    assert run(tmp_path, "-m", "seismograd", "where", "run") == str(tmp_path.resolve())
    assert "Print the folder that a run lies in." in run(tmp_path, "-m", "seismograd", "--help")


@pytest.mark.parametrize("title", ["A fact", "A statistic", "A view", "A hook", "A command"])
def test_the_files_of_a_recipe_have_no_line_too_long(title: str) -> None:
    lines = [
        line[1:] if language == "diff" else line
        for language, text in blocks(title)
        for line in text.splitlines()
    ]
    assert [line for line in lines if len(line) > 100] == []
