"""`GradScaler.scale`, `unscale_`, `step` and `update`."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all


def install(hub: EventHub) -> Undo:
    """Tell the hub of the loss scale, of the moment it is divided out, and of steps that the
    scaler leaves out.
    """
    scaler_class = torch.amp.GradScaler
    originals = {name: vars(scaler_class)[name] for name in ("scale", "unscale_", "step", "update")}

    @wraps(originals["scale"])
    def scale(self: Any, outputs: Any) -> Any:
        result = originals["scale"](self, outputs)
        hub.tell("scaled", self)
        return result

    @wraps(originals["unscale_"])
    def unscale_(self: Any, optimizer: Any) -> None:
        originals["unscale_"](self, optimizer)
        hub.tell("unscale_ends", self, optimizer)

    @wraps(originals["step"])
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        hub.tell("scaler_step_begins", optimizer)
        result = originals["step"](self, optimizer, *args, **kwargs)
        hub.tell("scaler_step_ends", self, optimizer)
        return result

    @wraps(originals["update"])
    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        originals["update"](self, *args, **kwargs)
        hub.tell("scaler_updated", self)

    wrappers = {"scale": scale, "unscale_": unscale_, "step": step, "update": update}
    return undo_all([replace(scaler_class, name, wrapper) for name, wrapper in wrappers.items()])
