"""Read what a scheduler and its optimizer hold: nothing waits for a device, and no code of the
script runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from seismograd.capture.names.parameter_groups import attribute


def done_before(known: Mapping[str, Any]) -> int:
    """Return how many calls were made before this first one: it has been given the state of
    another scheduler, or told where to begin.
    """
    last = known.get("last_epoch")
    return max(0, last - 1) if isinstance(last, int) else 0


def rates_at_hand(rates: Iterable[Any]) -> list[float]:
    """Return those that can be read without waiting for a device."""
    return [
        float(rate)
        for rate in rates
        if isinstance(rate, int | float)
        or (type(rate) is torch.Tensor and rate.device.type == "cpu" and rate.numel() == 1)
    ]


def is_number(value: object) -> bool:
    """Return whether this is a number that can be read without running code of the script."""
    return isinstance(value, int | float) or (
        type(value) in (torch.Tensor, torch.nn.Parameter) and value.numel() == 1  # pyright: ignore
    )


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer that steps: a framework's wrapper (accelerate's) is one itself and keeps
    the real one, which torch announces, as its `optimizer`.
    """
    for _ in range(4):
        inner = attribute(optimizer, "optimizer") if hasattr(optimizer, "__dict__") else None
        if not isinstance(inner, torch.optim.Optimizer):
            break
        optimizer = inner
    return optimizer
