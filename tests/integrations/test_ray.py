"""What Ray calls in its workers: found by name, light, and closing the record behind the training.

The script of docs/launchers.md with Ray itself: tests/launch/test_launchers_documented.py.
"""

from __future__ import annotations

import json
import pickle
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from seismograd.integrations import ray
from seismograd.integrations.ray import WorkerHook, add_hook
from seismograd.record.reader import open_run
from tests.record.processes import run_python

FIELD = "worker_process_setup_hook"


def test_it_is_called_in_a_process_that_trains_nothing_and_loads_nothing() -> None:
    ran = run_python(
        "import sys, json\n"
        "before = set(sys.modules)\n"
        "from seismograd.integrations.ray import watch_worker\n"
        "watch_worker()\n"
        "loaded = {each.split('.')[0] for each in set(sys.modules) - before}\n"
        "print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))"
    )
    assert json.loads(ran.stdout) == ["seismograd"], ran.stderr


def test_ray_finds_it_by_its_name_and_pickles_it_by_name() -> None:
    module, _, name = str(add_hook(None)[FIELD]).rpartition(".")
    assert getattr(import_module(module), name) is ray.watch_worker
    hook = WorkerHook("/shared/runs/first", {"level": "light"})
    pickled = pickle.dumps(hook)
    assert pickle.loads(pickled) == hook
    assert len(pickled) < 300
    assert callable(hook)
    assert hook.__name__  # what Ray reads of it
    with pytest.raises(TypeError):
        WorkerHook(options={"levle": "light"})


def test_the_environment_of_the_script_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANGUAGE", "en")
    monkeypatch.delenv(ray.OUT, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["somewhere/train.py"])
    given = {"env_vars": {"MINE": "1"}, "pip": ["x"]}
    changed = add_hook(given)
    assert given == {"env_vars": {"MINE": "1"}, "pip": ["x"]}
    assert changed["pip"] == ["x"]
    assert changed["env_vars"]["MINE"] == "1"
    assert changed["env_vars"][ray.SCRIPT] == "train.py"
    out = Path(changed["env_vars"][ray.OUT])
    assert out.parent == tmp_path / "runs"
    assert out.name.endswith("-train")
    monkeypatch.setenv(ray.OUT, "elsewhere")
    assert add_hook(None)["env_vars"][ray.OUT] == str(tmp_path / "elsewhere")
    assert capsys.readouterr().err == ""
    assert add_hook({FIELD: "theirs.hook"}) == {FIELD: "theirs.hook"}
    assert "setup hook already" in capsys.readouterr().err


def hooked(call: Any) -> list[threading.Thread]:
    """The threads that closing behind a training has."""
    before = set(threading.enumerate())
    call()
    return [
        each
        for each in threading.enumerate()
        if each not in before and each.name == "seismograd-ray"
    ]


def test_the_record_is_closed_behind_the_thread_that_has_trained(tmp_path: Path) -> None:
    def train() -> None:
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().mean().backward()
            optimizer.step()

    (behind,) = hooked(WorkerHook(tmp_path / "run"))
    training = threading.Thread(target=train)
    training.start()
    training.join()
    behind.join(120)
    assert not behind.is_alive()
    run = open_run(tmp_path / "run")
    assert (run.num_rows, run.ended) == (3, True)


def test_a_failure_of_ours_does_not_keep_a_worker_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such backend")

    monkeypatch.setenv("LANGUAGE", "en")
    monkeypatch.setattr("seismograd.recording.Recording", fail)
    assert hooked(WorkerHook(tmp_path / "run")) == []
    assert capsys.readouterr().err == (
        "seismograd: the training is not recorded: RuntimeError: no such backend\n"
    )
