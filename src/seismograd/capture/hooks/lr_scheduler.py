"""The `step` of learning rate schedulers, and the start of a `DataLoader` iteration."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all

# those of torch that have a `step` of their own; all others, and those of users, call one of these
CLASSES = (
    "LRScheduler",
    "SequentialLR",
    "ChainedScheduler",
    "ReduceLROnPlateau",
    "CosineAnnealingWarmRestarts",
)


def install(hub: EventHub) -> Undo:
    """Report to the hub each scheduler that is created, and each step of one that the script makes:
    not those that a scheduler makes of others within its own.
    """
    running = threading.local()

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(running, "within", False):
                return original(self, *args, **kwargs)
            if vars(self).get("_step_count") == 0:  # it is being constructed
                result = original(self, *args, **kwargs)
                hub.schedule_made(self)
                return result
            running.within = True
            try:
                result = original(self, *args, **kwargs)
            finally:
                running.within = False
            hub.scheduled(self, args[0] if args else kwargs.get("metrics"))
            return result

        return step

    iterate: Callable[..., Any] = vars(DataLoader)["__iter__"]

    @wraps(iterate)
    def iterates(self: Any) -> Any:
        hub.epoch_begins(self)
        return iterate(self)

    found = [getattr(lr_scheduler, name, None) for name in CLASSES]
    classes = [each for each in found if isinstance(each, type) and "step" in vars(each)]
    return undo_all(
        [
            *(replace(each, "step", wrapped(vars(each)["step"])) for each in classes),
            replace(DataLoader, "__iter__", iterates),
        ]
    )
