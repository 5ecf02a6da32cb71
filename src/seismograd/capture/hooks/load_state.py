"""`load_state_dict` of modules and optimizers: the patch; probes take what a call means."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all


def install(hub: EventHub) -> Undo:
    """Report to the hub each state that is about to be loaded, with the module or optimizer."""

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def load_state_dict(self: Any, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling():
                hub.state_loads(self, state_dict)
            return original(self, state_dict, *args, **kwargs)

        return load_state_dict

    return undo_all(
        [
            replace(owner, "load_state_dict", wrapped(vars(owner)["load_state_dict"]))
            for owner in (torch.nn.Module, torch.optim.Optimizer)
        ]
    )
