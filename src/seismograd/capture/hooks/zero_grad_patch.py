"""`Optimizer.zero_grad` and `Module.zero_grad`. Gradients cleared in any other way are noticed
by looking at them.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all


def _wrap(hub: EventHub, original: Any) -> Any:
    @wraps(original)
    def zero_grad(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        result = original(self, *args, **kwargs)
        hub.tell("zero_grad_ends", self)
        return result

    return zero_grad


def install(hub: EventHub) -> Undo:
    """Tell the hub of every `zero_grad`, once it has cleared."""
    return undo_all(
        [
            replace(c, "zero_grad", _wrap(hub, vars(c)["zero_grad"]))
            for c in (torch.optim.Optimizer, torch.nn.Module)
        ]
    )
