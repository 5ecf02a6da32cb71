"""DTensors and the parts that this process holds of them."""

from __future__ import annotations

import sys
from typing import Any

import torch

from seismograd.tensors.tensor_part import TensorPart

DISTRIBUTED_TENSORS = "torch.distributed.tensor"


def distributed_tensor(tensor: torch.Tensor) -> Any | None:
    """Return the tensor if it is a DTensor. It can only be one when that module has been imported;
    importing it here would cost a second.
    """
    if type(tensor) is torch.Tensor:
        return None
    module: Any = sys.modules.get(DISTRIBUTED_TENSORS)
    return tensor if module is not None and isinstance(tensor, module.DTensor) else None


def any_distributed() -> bool:
    """Return whether there may be DTensors in this process at all."""
    return DISTRIBUTED_TENSORS in sys.modules


def held_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of a tensor, detached; no communication."""
    if type(tensor) is TensorPart:
        return tensor.as_subclass(torch.Tensor)
    distributed = distributed_tensor(tensor)
    if distributed is None:
        return tensor.detach()
    local: torch.Tensor = distributed._local_tensor  # what `to_local` returns without gradients
    # an AsyncCollectiveTensor, whose own collective may still be running
    wait: Any = getattr(local, "wait", None)
    return (wait() if wait is not None else local).detach()


def num_held(tensor: torch.Tensor) -> int:
    """Return how many scalars of a tensor this process holds."""
    distributed = distributed_tensor(tensor)
    return tensor.numel() if distributed is None else int(distributed._local_tensor.numel())
