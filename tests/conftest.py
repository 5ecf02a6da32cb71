"""What holds for every test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import count
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


class QuickFreezing:
    """`gc.freeze` and `gc.unfreeze` with a `gc.get_freeze_count` that only says how often the one
    was called since the other. Python's own walks through all that is frozen, here a million
    objects, and a search for models asks for it several times: a third of what tests that watch
    took. Nobody needs more of it than whether it has changed, and whether there is anything.
    """

    def __init__(self) -> None:
        self._freeze, self._unfreeze = gc.freeze, gc.unfreeze
        self._num = 0

    def freeze(self) -> None:
        self._num += 1
        self._freeze()

    def unfreeze(self) -> None:
        self._num = 0
        self._unfreeze()

    def get_freeze_count(self) -> int:
        return self._num

    def install(self) -> None:
        gc.freeze, gc.unfreeze = self.freeze, self.unfreeze
        gc.get_freeze_count = self.get_freeze_count


QuickFreezing().install()
NUM_FILES, FILES_UNTIL_CLEARED = count(), 8


@pytest.fixture(autouse=True, scope="session")
def unfrozen_at_the_end() -> Iterator[None]:
    """Let the interpreter delete everything when it ends."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="module")
def without_garbage_of_others() -> None:
    """Delete what tests of other files left behind, as far as nothing holds it: every few files,
    as the collector then goes through all there is.
    """
    if next(NUM_FILES) % FILES_UNTIL_CLEARED:
        return
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def without_objects_of_others(without_garbage_of_others: None) -> None:
    """Keep a test from what was in the process before it: `watch()` searches all that the
    collector lists for models and optimizers, and what tests before it made may live on. The
    collector neither lists nor searches what is frozen, so this is quick.
    """
    gc.collect()
    gc.freeze()
