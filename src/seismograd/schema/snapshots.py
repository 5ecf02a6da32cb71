"""Snapshots: whole tensors of one moment, in safetensors files beside the rows of a run."""

from __future__ import annotations

import re
from enum import StrEnum

FOLDER = "snapshots"
_NAME = re.compile(
    r"step-\d{8,16}(-optimizer-\d{1,5})?(-weights|-batch)?(-rank-\d{1,6})?\.safetensors"
)


class SnapshotContent(StrEnum):
    """What a file holds."""

    GRADIENTS = "gradients"  # as the optimizer is given them
    WEIGHTS = "weights"  # before the update
    BATCH = "batch"  # what the model was called with


class SnapshotReason(StrEnum):
    """Why it was taken. A finding is named by its code instead."""

    EVERY = "every"
    STEP = "step"
    NONFINITE = "nonfinite"


def snapshot_file(step: int, content: SnapshotContent, optimizer: int = 0, rank: int = 0) -> str:
    """Return the name of a file: that of the first optimizer's gradients on rank 0 is the
    shortest.
    """
    of_optimizer = f"-optimizer-{optimizer}" if optimizer > 0 else ""
    of_content = "" if content is SnapshotContent.GRADIENTS else f"-{content}"
    of_rank = f"-rank-{rank}" if rank > 0 else ""
    return f"step-{step:08d}{of_optimizer}{of_content}{of_rank}.safetensors"


def is_snapshot_file(name: str) -> bool:
    """Return whether this is the name of a snapshot's file."""
    return _NAME.fullmatch(name) is not None
