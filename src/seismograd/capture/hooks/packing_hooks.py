"""`saved_tensors_hooks`: the patch, where saved tensors do not tell what has packed them."""

from __future__ import annotations

from functools import wraps
from typing import Any

from torch.autograd.graph import saved_tensors_hooks

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace
from seismograd.tensors.saved_tensors import PACKING_HOOKS, SHOWS_DATA


def install(_hub: EventHub) -> Undo:
    """Note that the program saves tensors through hooks, from the first time on."""
    if SHOWS_DATA:
        return lambda: None
    PACKING_HOOKS.seen = False
    original = saved_tensors_hooks.__enter__

    @wraps(original)
    def enter(self: Any) -> Any:
        PACKING_HOOKS.seen = True
        return original(self)

    undo = replace(saved_tensors_hooks, "__enter__", enter)

    def forget() -> None:
        undo()
        PACKING_HOOKS.seen = False

    return forget
