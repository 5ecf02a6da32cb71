"""What holds for every test."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

# pytest-xdist keeps the cores busy already; more threads of torch would only wait for each other.
# Also for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Triton reads this when it is first imported, which torch may do in any test. Where there is a GPU,
# kernels are tested on it.
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# No deadline: on a busy machine a slow example says nothing. In CI the examples are the same each
# time: what fails there fails here.
settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True, scope="module")
def without_garbage_of_others() -> None:
    """Delete the models of other tests that are in reference cycles: who looks for all models of
    the process would find them.
    """
    gc.collect()


@pytest.fixture
def without_garbage() -> None:
    """Do so before one test, where those before it in the same file leave some."""
    gc.collect()
