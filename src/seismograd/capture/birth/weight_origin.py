"""Find what wrote a non-finite number into a weight, from what its optimizer keeps."""

from __future__ import annotations

from typing import Any

import torch

from seismograd.capture.birth.operation import readable
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_groups import groups_of, setting
from seismograd.schema import BirthReason

SECOND_MOMENTS = ("exp_avg_sq", "square_avg", "sum")  # what a step divides by the root of


def written_by(
    weight: torch.Tensor, optimizer: torch.optim.Optimizer | None, window: OptimizerWindow | None
) -> BirthReason:
    """Return why a weight is not finite before this forward pass."""
    if optimizer is None or window is None or window.num_steps == 0:
        return BirthReason.WEIGHT
    group = _group_of(weight, optimizer)
    state: Any = optimizer.state.get(weight, {}) if group is not None else {}
    eps = setting(group, "eps") if group is not None else None
    if (
        isinstance(eps, float)
        and weight.is_floating_point()
        and float(torch.tensor(eps, dtype=weight.dtype, device="cpu")) == 0
        and _has_zeros(state)
    ):
        return BirthReason.EPS
    if _largest_update(weight, window, group, state) <= torch.finfo(weight.dtype).max:
        return BirthReason.WRITTEN
    return BirthReason.UPDATE


def _group_of(weight: torch.Tensor, optimizer: torch.optim.Optimizer) -> Any:
    for group in groups_of(optimizer):
        if any(p is weight for p in setting(group, "params")):
            return group
    return None


def _has_zeros(state: Any) -> bool:
    for name in SECOND_MOMENTS:
        kept = state.get(name)
        held = readable(kept) if isinstance(kept, torch.Tensor) else None
        if held is not None and bool((held == 0).any()):
            return True
    return False


def _largest_update(weight: torch.Tensor, window: OptimizerWindow, group: Any, state: Any) -> float:
    """Return an upper bound of how far the last step can have moved a scalar; infinite where there
    is none.
    """
    lr: Any = setting(group, "lr")
    rate = float(lr) if isinstance(lr, int | float | torch.Tensor) else float("inf")
    largest = 0.0
    for kept in state.values():
        held = readable(kept) if isinstance(kept, torch.Tensor) else None
        if held is not None and held.numel():
            largest = max(largest, _max(held))
    reading = window.last
    if reading is not None and reading.arrival is None and "grad_max" in reading.values:
        values = reading.values["grad_max"]
        largest = max(largest, float(values.max()) if len(values) else 0.0)
    finite = [1.0]
    held = readable(weight)
    if held is not None:
        finite = held[torch.isfinite(held)].abs().double()
        finite = [float(finite.max())] if finite.numel() else [float("inf")]
    moved = abs(rate) * max(largest, 1.0) * (1e10 if state else 1.0) + finite[0]
    return moved if moved == moved else float("inf")


def _max(tensor: torch.Tensor) -> float:
    largest = float(tensor.abs().double().max())
    return largest if largest == largest else float("inf")
