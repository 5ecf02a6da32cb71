"""`Optimizer.step`: torch's own global hooks, which see every optimizer class, whoever wrote it."""

from __future__ import annotations

from typing import Any

import torch
from torch._compile import _disable_dynamo  # pyright: ignore  # torch.compiler.disable would load dynamo at once
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from seismograd.capture.events import EventHub, Undo


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None


def install(hub: EventHub) -> Undo:
    """Report to the hub when a step begins and ends. The hooks return None: anything else would
    replace the arguments.

    A compiled step runs them as they are: `torch.compile` must not try to compile them.
    """

    def step_begins_compiled(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hub.step_begins(optimizer, _closure(args, kwargs), True)

    def step_ends(optimizer: Any) -> None:
        hub.step_ends(optimizer)

    # Each call through these costs ten microseconds, so only a step that is being compiled uses
    # them.
    begins_uncompiled, ends_uncompiled = (
        _disable_dynamo(step_begins_compiled),
        _disable_dynamo(step_ends),
    )

    def before(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if hub.within and (announce := hub.within.get(id(optimizer))) is not None:
            announce()
            return
        if torch.compiler.is_compiling():
            begins_uncompiled(optimizer, args, kwargs)
        else:
            # almost all calls have no arguments
            hub.step_begins(optimizer, bool(kwargs or args[1:]) and _closure(args, kwargs), False)

    def after(optimizer: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if hub.within and id(optimizer) in hub.within:
            return
        if torch.compiler.is_compiling():
            ends_uncompiled(optimizer)
        else:
            hub.step_ends(optimizer)

    handles = (register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after))

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo
