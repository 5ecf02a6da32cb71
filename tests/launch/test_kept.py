"""`seismograd run --snapshot` and `show --snapshots`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.launch.test_guarded import SCRIPT, command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that kept snapshots."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "train.py").write_text(SCRIPT)
    options = ["--snapshot", "every=5,weights", "--snapshot", "on-finding", "--snapshot", "batch"]
    ended = command(folder, "run", *options, "--out", "one", "train.py")
    assert ended.returncode == 0, ended.stderr
    return folder


def test_what_was_kept_is_listed(folder: Path) -> None:
    shown = command(folder, "show", "one", "--snapshots")
    assert shown.returncode == 0, shown.stderr
    assert "step-00000005-weights.safetensors" in shown.stdout
    assert "gradients not finite" in shown.stdout
    listed = json.loads(command(folder, "show", "one", "--snapshots", "--format", "json").stdout)
    assert {(each["step"], each["content"], each["reason"]) for each in listed} >= {
        (5, "weights", "every"),
        (7, "gradients", "nonfinite"),
        (7, "batch", "nonfinite"),
    }
    of_step = command(folder, "show", "one", "--snapshots", "--step", "7", "--format", "json")
    assert {each["step"] for each in json.loads(of_step.stdout)} == {7}


def test_a_file_that_is_no_snapshot_is_a_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "one", tmp_path / "one")
    (tmp_path / "one" / "snapshots" / "step-00000009.safetensors").write_bytes(b"\x1b[2J" * 9)
    shown = command(tmp_path, "show", "one", "--snapshots")
    assert shown.returncode == 0
    assert "step-00000005-weights.safetensors" in shown.stdout
    assert "is no snapshot, or a damaged one" in " ".join(shown.stdout.split())
    assert "\x1b[2J" not in shown.stdout


@pytest.mark.parametrize("text", ["often", "every=0", "weights"])
def test_a_value_that_is_not_understood_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('ran')")
    ended = command(tmp_path, "run", "--snapshot", text, "train.py")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
