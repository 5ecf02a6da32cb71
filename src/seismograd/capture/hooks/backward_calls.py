"""`torch.autograd.backward`, which `Tensor.backward` goes through as well: the patch."""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace


def install(hub: EventHub) -> Undo:
    """Report every outermost backward to the hub. A nested one (reentrant checkpointing) is part of
    it.
    """
    original = torch.autograd.backward
    single = (torch.Tensor, torch.autograd.graph.GradientEdge)

    @wraps(original)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:  # pyright: ignore
            return original(tensors, *args, **kwargs)
        if type(tensors) is not torch.Tensor and not isinstance(tensors, single):
            tensors = tuple(tensors)
        # of two views Python looks through the shorter one, else through all modules there are
        if hub.late and not hub.late.keys().isdisjoint(sys.modules.keys()):
            hub.install_late()
        hub.backward_begins(tensors)
        try:
            return original(tensors, *args, **kwargs)
        finally:
            hub.backward_ends()

    return replace(torch.autograd, "backward", backward)
