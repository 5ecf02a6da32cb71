"""Detect whether a step runs on this thread, from torch's own frames on the stack."""

from __future__ import annotations

import inspect
import sys

_OPTIMIZER_FILE = sys.modules["torch.optim.optimizer"].__file__


def is_within_a_step() -> bool:
    """Return whether the announced step runs within another one on this thread."""
    frame, num = inspect.currentframe(), 0
    while frame is not None and num < 2:
        num += frame.f_code.co_name == "wrapper" and frame.f_code.co_filename == _OPTIMIZER_FILE
        frame = frame.f_back
    return num >= 2


def is_inside_a_step() -> bool:
    """Return whether a step is running on this thread: one that raised never reports its end."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename == _OPTIMIZER_FILE:
            return True
        frame = frame.f_back
    return False
