"""Determine whether a run is still being written."""

from __future__ import annotations

import time
from pathlib import Path

from seismograd.record import layout
from seismograd.record.run_claim import STARTED

QUIET_S = 60.0  # a run that has not ended and wrote nothing for so long no longer counts as live


def is_going_on(path: Path) -> bool:
    """Return whether a run has not ended and was written to lately."""
    return not (path / layout.END).exists() and idle_s(path) < QUIET_S


def idle_s(path: Path) -> float:
    """Return the seconds since anything was last written to a run."""
    written = [
        (path / name).stat().st_mtime
        for name in (STARTED, layout.STEPS, layout.META, *layout.LINE_FILES)
        if (path / name).exists()
    ]
    return max(0.0, time.time() - max(written, default=0.0))  # none: it was removed
