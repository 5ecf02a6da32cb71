"""`seismograd run --out URL` with a place that is slow or down, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import seismograd
from seismograd.record.places.upload_status import UploadState, read_status
from tests.record.processes import ENVIRONMENT

pytest.importorskip("torch")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.slow, pytest.mark.extended]

SCRIPT = """
import random, sys, time, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    net(torch.full((4, 4), random.random())).square().mean().backward()
    optimizer.step()
    if len(sys.argv) > 2:
        time.sleep(0.01)
print([p.double().sum().item() for p in net.parameters()], random.random())
"""
SCRIPT = SCRIPT.replace("torch.manual_seed(0)", "torch.manual_seed(0)\nrandom.seed(0)")
PLACES = """
import time
from fsspec.implementations.local import LocalFileSystem

class Hanging(LocalFileSystem):
    def pipe_file(self, path, value, **options):
        time.sleep(3600)

class Down(LocalFileSystem):
    def pipe_file(self, path, value, **options):
        raise OSError("no route to the store")
"""
POINTS = "[fsspec.specs]\nhanging = places_of_a_test:Hanging\ndown = places_of_a_test:Down\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script, and an installed package with two kinds of places."""
    (tmp_path / "train.py").write_text(SCRIPT)
    installed = tmp_path / "installed" / "places_of_a_test-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: places-of-a-test\nVersion: 1\n"
    )
    (installed / "entry_points.txt").write_text(POINTS)
    (tmp_path / "installed" / "places_of_a_test.py").write_text(PLACES)
    return tmp_path


def python(folder: Path, *words: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(folder / "installed"), ENVIRONMENT["PYTHONPATH"]])
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LANGUAGE": "en"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["hanging", "down"])
def test_a_place_that_hangs_or_is_down_changes_nothing(folder: Path, kind: str) -> None:
    alone = python(folder, "train.py", "200")
    words = ["--out", f"{kind}:///{folder}/store/one", "--upload-wait", "3", "train.py", "200"]
    watched = python(folder, "-m", "seismograd", "run", *words)
    out, err = watched.communicate(timeout=180)
    assert (out, watched.returncode) == (alone.communicate(timeout=180)[0], alone.wait())
    assert f"not all of the record is at {kind}:///" in err
    assert f"this sends the rest: seismograd upload runs/one {kind}:///" in err
    assert ("no route to the store" in err) == (kind == "down")
    assert seismograd.open_run(folder / "runs" / "one").num_rows == 200
    status = read_status(folder / "runs" / "one")
    assert status is not None
    os.kill(status.process, signal.SIGKILL)


def test_a_killed_run_is_sent_to_its_last_row(folder: Path) -> None:
    url = (folder / "store" / "one").as_uri()
    process = python(folder, "-m", "seismograd", "run", "--out", url, "train.py", "100000", "slow")
    end = time.monotonic() + 120
    while not any((folder / "store" / "one").glob("packs/*")) and time.monotonic() < end:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    spool = folder / "runs" / "one"
    while time.monotonic() < end:
        status = read_status(spool)
        if status is not None and status.state == UploadState.COMPLETE:
            break
        time.sleep(0.1)
    run = seismograd.open_run(url)
    assert run.num_rows == seismograd.open_run(spool).num_rows > 0
    assert not run.ended
    assert run.torn is None
