"""Find the step of a record that a checkpoint was made at."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from seismograd.record.reader import Run
from seismograd.record.run_claim import STARTED
from seismograd.schema import StepFlag


def run_identity(path: Path) -> str:
    """Return what tells a record from others, wherever it is moved to; empty where nothing does."""
    try:
        return f"{zlib.crc32((path / STARTED).read_bytes()):08x}"
    except OSError:
        return ""


def step_behind(run: Run) -> int:
    """Return the step that follows the last one of a record."""
    last = run.steps["iteration"][-1:]
    return int(last[0]) + 1 if len(last) else 0


def step_after_updates(run: Run, num_updates: int) -> int:
    """Return the step that follows so many updates of the optimizer that stepped most often, and of
    others that stepped as often.

    A record that was killed may lack the last ones. One that has ended does not, so its optimizer
    must have made updates before, nobody knows how many: what follows its last step then.
    """
    steps = run.steps
    numbers, counts = np.unique(steps["optimizer"][steps["optimizer"] >= 0], return_counts=True)
    is_made = (steps["flags"] & int(StepFlag.SKIPPED)) == 0
    following = step_behind(run)
    found: list[int] = []
    for number in numbers[counts == counts.max(initial=0)].tolist():
        rows = np.flatnonzero(is_made & (steps["optimizer"] == number))
        if num_updates <= len(rows):
            found.append(int(steps["iteration"][rows[num_updates - 1]]) + 1)
        elif not run.ended and len(numbers) == 1:
            found.append(following + num_updates - len(rows))
    return max(found, default=following)
