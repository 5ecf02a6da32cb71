"""`benchmarks/on_gpu.py` runs, though only a GPU can give it figures."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "on_gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_without_a_gpu_it_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout.startswith("no CUDA GPU here")
    assert len(done.stdout.splitlines()) == 1
    assert not done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are imported for the GPU")
def test_every_part_of_it_runs_tiny_on_the_cpu() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stderr
    for shown in (
        "float32: kernels, with histogram",
        "bfloat16: kernels",
        "all pointers changed",
        "waits, level deep",
        "seismograd, normal",
        "clip_grad_norm_",
        "trainings:",
    ):
        assert shown in done.stdout
