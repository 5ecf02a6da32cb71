"""Which processes are followed, and that nothing stays behind."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import process as pools
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch.multiprocessing.spawn  # noqa: F401  it is in sys.modules then
from torch.utils.data._utils import worker

from seismograd.cli.launch.child_process import ChildProcess
from seismograd.cli.launch.spawned_processes import follow, trains
from seismograd.settings.elements import ElementSpec
from seismograd.settings.recording_options import RecordingOptions


def train() -> None:
    """What a script would have as the target of a process."""


def nothing() -> Callable[[], None]:
    return train


def test_start_is_the_same_object_before_and_after() -> None:
    before = vars(BaseProcess)["start"]
    undo = follow(nothing)
    assert vars(BaseProcess)["start"] is not before
    undo()
    assert vars(BaseProcess)["start"] is before


def test_what_the_script_starts_is_followed_and_helpers_are_left_alone() -> None:
    context = multiprocessing.get_context("spawn")
    spawned = sys.modules["torch.multiprocessing.spawn"]._wrap
    for target, followed in [
        (train, True),
        (spawned, True),
        (worker._worker_loop, False),
        (multiprocessing.pool.worker, False),
        (pools._process_worker, False),
        (None, False),
    ]:
        assert trains(context.Process(target=target)) is followed, target


def test_what_a_new_process_is_told_can_be_pickled() -> None:
    child = ChildProcess(
        Path("run"), "train.py", RecordingOptions((ElementSpec("w", (0,)),), guard=True)
    )
    assert pickle.loads(pickle.dumps(child)) == child
