"""The steps in time of a recurrent module that runs as one call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.xray.measured import norm

MAX_STEPS = 64  # of a sequence that are kept, evenly spread


def is_recurrent(module: Any) -> bool:
    """Return whether a module runs over a whole sequence."""
    return isinstance(module, torch.nn.RNNBase)


def time_axis(module: Any, given: Tensor) -> int:
    """Return the axis of time of its input."""
    return 1 if module.batch_first and given.dim() == 3 else 0


def kept_steps(num: int) -> list[int]:
    """Return the steps that are kept of so many, the first and the last among them."""
    if num <= MAX_STEPS:
        return list(range(num))
    return [round(at * (num - 1) / (MAX_STEPS - 1)) for at in range(MAX_STEPS)]


def rms_in_time(axis: int, steps: list[int]) -> Callable[[Tensor], list[Tensor]]:
    """Return a function that measures a tensor at each of these steps."""

    def measure(tensor: Tensor) -> list[Tensor]:
        of_steps = tensor.detach().movedim(axis, 0).flatten(1)
        sizes = norm(of_steps) / math.sqrt(of_steps.shape[1])
        return [sizes[step] for step in steps]

    return measure
