"""DeepSpeed within transformers' Trainer and accelerate, and its launcher: an unedited script is
recorded whole, with the norms that DeepSpeed has computed itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.schema import State
from tests.distributed.processes import HERE, free_port, start
from tests.distributed.test_started import python

pytest.importorskip("deepspeed")
pytestmark = [pytest.mark.ranks, pytest.mark.slow]

PROGRAM = str(HERE / "zero_frameworks.py")
NAMES = ["first.weight", "first.bias", "second.weight", "second.bias"]
PARTS, LIMIT_S = 2, 400


def norms_of(out: str) -> list[float]:
    """What the program tells, between what frameworks print."""
    (told,) = [line for line in out.splitlines() if line.startswith('{"norms"')]
    return json.loads(told)["norms"]


def check(out: Path, norms: list[float], digits: float) -> None:
    run = seismograd.open_run(out)
    assert run.ended
    assert [(n.kind, n.message.render()) for n in run.notes] == []
    assert [f.code for f in run.findings if f.severity != "info"] == []
    assert [p.name for p in run.parameters] == NAMES
    assert [p.numel for p in run.parameters] == [78, 13, 39, 3]
    assert [(o.kind, o.name) for o in run.optimizers] == [("AdamW", "optimizer")]
    assert (run.states == State.FINITE).all()
    assert run.steps["num_backwards"].tolist() == [PARTS] * len(norms)
    assert run.ranks["rank"].tolist() == [0, 1] * len(norms)
    np.testing.assert_allclose(run.steps["grad_norm"], norms, digits)
    np.testing.assert_allclose(run.steps["clip_norm"], norms, digits)
    np.testing.assert_allclose(run.steps["applied_norm"], np.minimum(norms, 0.5), 1e-3)


@pytest.mark.parametrize("stage", ["2", "3"])
@pytest.mark.parametrize(("how", "module"), [("trainer", "transformers"), ("accelerate",) * 2])
def test_frameworks_with_deepspeed_are_recorded_whole(
    how: str, module: str, stage: str, tmp_path: Path
) -> None:
    pytest.importorskip(module)
    words = ["-m", "seismograd", "run", "--quiet", "--out", "run", PROGRAM, how, stage]
    ended = start(words, 2, tmp_path, LIMIT_S, LOCAL_WORLD_SIZE="2", DS_ACCELERATOR="cpu")
    assert [each.code for each in ended] == [0, 0], ended[0].err[-3000:]
    # Trainer logs four digits
    check(tmp_path / "run", norms_of(ended[0].out), 1e-3 if how == "trainer" else 1e-5)


def test_the_launcher_of_deepspeed_gives_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    launcher = ["-m", "deepspeed.launcher.runner", "--num_gpus", "2"]
    port = ["--master_port", str(free_port())]
    ours = ["--no_local_rank", "--module", "seismograd", "run", "--out", "run"]
    ended = python([*launcher, *port, *ours, PROGRAM, "engine", "2"], tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    check(tmp_path / "run", norms_of(ended.out), 1e-5)
