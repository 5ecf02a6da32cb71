"""`torch.autograd.backward`, through which `Tensor.backward` goes as well."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace


def install(hub: EventHub) -> Undo:
    """Tell the hub of every outermost backward. One inside another (reentrant checkpointing) is
    part of it.
    """
    original = torch.autograd.backward

    @wraps(original)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:  # pyright: ignore
            return original(tensors, *args, **kwargs)
        if not isinstance(tensors, torch.Tensor | torch.autograd.graph.GradientEdge):
            tensors = tuple(tensors)
        hub.tell("backward_begins", tensors)
        try:
            return original(tensors, *args, **kwargs)
        finally:
            hub.tell("backward_ends")

    return replace(torch.autograd, "backward", backward)
