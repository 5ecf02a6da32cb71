"""No record names the home directory of whoever made it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seismograd import home_directory, open_run
from seismograd.home_directory import HOMES, without_home
from seismograd.i18n import say
from tests.record.processes import ENVIRONMENT
from tests.synthetic import block, note, write_run

SCRIPT = """
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shared"))
import torch
import helper
net = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=float("inf"))
for step in range(12):
    optimizer.zero_grad()
    helper.loss_of(net).backward()
    optimizer.step()
raise FileNotFoundError(2, "No such file", os.path.expanduser("~/data/train.bin"))
"""
HELPER = """
import torch
def loss_of(net):
    loss = net(torch.ones(4, 3)).pow(2).mean()
    loss.register_hook(lambda gradient: None)
    return loss
"""
NAME = "home-of-ann"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a script in the home directory that is run from another folder."""
    pytest.importorskip("torch")
    place = tmp_path_factory.mktemp("machine")
    home, here = place / NAME, place / "elsewhere"
    for folder, name, source in (("project", "train", SCRIPT), ("shared", "helper", HELPER)):
        (home / folder).mkdir(parents=True)
        (home / folder / f"{name}.py").write_text(source, "utf-8")
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "seismograd", "run", "--out", "run", home / "project" / "train.py"],
        cwd=here,
        env=ENVIRONMENT | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "FileNotFoundError" in done.stderr
    return here / "run"


def test_no_byte_of_a_record_names_the_home_directory(record: Path) -> None:
    files = [path for path in record.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        assert NAME not in str(path.relative_to(record))
        assert NAME.encode() not in path.read_bytes(), path


def test_places_are_told_from_the_scripts_folder(record: Path) -> None:
    files = {site.file for site in open_run(record).sites}
    assert "train.py" in files
    assert not any(Path(file).is_absolute() for file in files)


def test_texts_of_others_are_written_with_a_tilde(tmp_path: Path) -> None:
    """As of an exception in a part of ours that the script caused."""
    said = say("a part failed: {error}", error=f"OSError: {HOMES[0]}/data/train.bin")
    write_run(tmp_path / "run", [block([[1.0]])], notes=[note(message=said)])
    (told,) = open_run(tmp_path / "run").notes
    assert told.message.render() == "a part failed: OSError: ~/data/train.bin"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("{home}/x.py", "~/x.py"),
        ("{home}", "~"),
        ("in '{home}', 3 files", "in '~', 3 files"),
        ("{home}s/x.py", "{home}s/x.py"),
        ("{home}.old/x", "{home}.old/x"),
        ("/mnt{home}/x", "/mnt{home}/x"),
        ("file://{home}/x", "file://~/x"),
    ],
)
def test_only_the_home_directory_is_taken_out(path: str, told: str) -> None:
    home = str(HOMES[0])
    assert without_home(path.format(home=home).encode()).decode() == told.format(home=home)


def test_a_user_without_a_home_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert Path("/") not in home_directory._homes()
    assert os.sep not in {str(home) for home in HOMES}
