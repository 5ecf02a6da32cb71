"""The clip of FullyShardedDataParallel, the first FSDP, which puts the norms of shards together
itself: the patch. To everything behind it, it is a clip of all parameters by their whole norm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.clip_grad import NORM
from seismograd.capture.hooks.replace_attribute import replace
from seismograd.exception_origin import left_out

MODULE, CLASS = "torch.distributed.fsdp.fully_sharded_data_parallel", "FullyShardedDataParallel"


def _parameters(model: Any) -> list[Any]:
    """Return what it clips itself: nothing where it leaves that to the clip of torch, since no
    process has a part only.
    """
    found: list[Any] = []
    with left_out():
        if any(handle.uses_sharded_strategy for handle in model._all_handles):
            found = list(model.parameters())
    return found


def _wrap(hub: EventHub, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def clip_grad_norm_(self: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = _parameters(self) if hub.listening else []
        if not parameters or torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        hub.clip_begins(parameters)
        total = original(self, *args, **kwargs)
        limit = kwargs.get("max_norm", args[0] if args else float("nan"))
        order = kwargs.get("norm_type", args[1] if len(args) > 1 else 2.0)
        hub.clip_ends(NORM, limit, total, order == 2.0)
        return total

    return clip_grad_norm_


def install(hub: EventHub) -> Undo:
    """Report its clips to the hub, from when the program has imported it."""

    def install_late() -> Undo | None:
        kind: Any = vars(sys.modules[MODULE]).get(CLASS)
        own = getattr(kind, "__dict__", {}).get("clip_grad_norm_")
        return None if own is None else replace(kind, "clip_grad_norm_", _wrap(hub, own))

    hub.late[MODULE] = install_late
    return _nothing


def _nothing() -> None:
    """Undo nothing: the hub undoes what was installed late."""
