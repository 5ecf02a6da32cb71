"""The step of DeepSpeed's ZeRO optimizers: the patch. To everything behind it, such an optimizer is
one of torch's that has the model's parameters, and clips them by their whole norm before its step.

Within its step it clips, and steps the optimizer that it has inside on flat partitions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.clip_grad import NORM, wrap
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.names.parameter_groups import held_by
from seismograd.capture.names.zero_optimizer import (
    MODULES,
    attributes,
    inner_optimizers,
    zero_classes,
)
from seismograd.exception_origin import left_out


class _Announcement:
    """Tells of a step at the moment when the inner optimizer is about to move weights; the norm
    that the gradients are clipped by is known then.
    """

    def __init__(self, hub: EventHub, zero: Any) -> None:
        self._hub, self._zero = hub, zero
        own = attributes(zero)
        limit = own.get("clip_grad")
        self._limit = float(limit) if isinstance(limit, int | float) else 0.0
        self._is_due = self._limit > 0
        self._norm_scale = _scale_of_norm(own)

    def begin(self) -> None:
        """Have the gradients read, while they are there and nothing has clipped them."""
        if self._is_due:
            self._hub.clip_begins(held_by(self._zero))
        else:
            self._hub.step_begins(self._zero, False, False)

    def make(self) -> None:
        """Tell of the clip and of the step, once."""
        if not self._is_due:
            return
        self._is_due = False
        own = attributes(self._zero)
        norm = math.inf if own.get("overflow") else own.get("_global_grad_norm")
        total = math.nan if norm is None else norm / self._norm_scale
        self._hub.clip_ends(NORM, self._limit, total, True)
        self._hub.step_begins(self._zero, False, False)


def _wrap(hub: EventHub, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hub.listening:
            return original(self, *args, **kwargs)
        inner: list[int] = []
        announcement = _Announcement(hub, self)
        with left_out():
            inner += [id(each) for each in inner_optimizers(self)]
            announcement.begin()
        hub.within.update(dict.fromkeys(inner, announcement.make))
        try:
            result = original(self, *args, **kwargs)
        finally:
            for each in inner:
                hub.within.pop(each, None)
        announcement.make()  # where no inner optimizer has stepped: the step was left out
        hub.step_ends(self)
        return result

    return step


def _scale_of_norm(own: dict[str, Any]) -> float:
    """Return what the norm that it stores is multiplied by: the loss scale where it is an optimizer
    without ZeRO that does not fuse the groups, else nothing.
    """
    config = own.get("loss_scale_config") if "fp32_groups" in own else None
    return float(getattr(config, "__dict__", {}).get("cur_scale", 1.0))


def _install_clip(hub: EventHub) -> Undo:
    """Report the clips of an engine without ZeRO, which are DeepSpeed's own."""
    undos: list[Undo] = []
    original: Any = None
    for name in ("deepspeed.runtime.utils", "deepspeed.runtime.engine"):
        module = sys.modules.get(name)
        own = {} if module is None else vars(module)
        original = original or own.get("clip_grad_norm_")
        if original is not None and own.get("clip_grad_norm_") is original:
            undos.append(replace(module, "clip_grad_norm_", wrap(hub, original, "clip_grad_norm_")))
    return undo_all(undos)


def _install_one(hub: EventHub, kind: type[Any]) -> Undo:
    return replace(kind, "step", _wrap(hub, vars(kind)["step"]))


def install(hub: EventHub) -> Undo:
    """Report the steps of ZeRO optimizers to the hub, from when the program has imported them."""

    hub.late["deepspeed.runtime.engine"] = lambda: _install_clip(hub)

    def late(module: str) -> Callable[[], Undo | None]:
        def install_late() -> Undo | None:
            for kind in zero_classes():
                if kind.__module__ == module:
                    return _install_one(hub, kind)
            return None

        return install_late

    for module in MODULES:
        hub.late[module] = late(module)
    return _nothing


def _nothing() -> None:
    """Undo nothing: the hub undoes what was installed late."""
