"""`Optimizer.step`, by torch's own global hooks: they see every optimizer class, whoever wrote
it.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch._compile import _disable_dynamo  # pyright: ignore  # torch.compiler.disable would load dynamo at once
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from seismograd.capture.events import EventHub, Undo

_OPTIMIZER_FILE = sys.modules["torch.optim.optimizer"].__file__


def is_within_a_step() -> bool:
    """Whether the step that is announced on this thread runs within another one: torch's own
    frames on the stack tell.
    """
    frame, num = sys._getframe(), 0
    while frame is not None and num < 2:
        num += frame.f_code.co_name == "wrapper" and frame.f_code.co_filename == _OPTIMIZER_FILE
        frame = frame.f_back
    return num >= 2


def is_inside_a_step() -> bool:
    """Whether a step is running on this thread: one that raised never says that it has ended."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == _OPTIMIZER_FILE:
            return True
        frame = frame.f_back
    return False


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None


def install(hub: EventHub) -> Undo:
    """Tell the hub when a step begins and when it has ended. The hooks return None: anything else
    would replace the arguments.

    A compiled step runs them as they are: `torch.compile` must not try to compile what is in them.
    """

    def step_begins(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hub.tell("step_begins", optimizer, _closure(args, kwargs), False)

    def step_begins_compiled(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hub.tell("step_begins", optimizer, _closure(args, kwargs), True)

    def step_ends(optimizer: Any) -> None:
        hub.tell("step_ends", optimizer)

    # Each call through these costs ten microseconds, so only a step that is being compiled goes
    # through them.
    begins_uncompiled, ends_uncompiled = (
        _disable_dynamo(step_begins_compiled),
        _disable_dynamo(step_ends),
    )

    def before(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            begins_uncompiled(optimizer, args, kwargs)
        else:
            step_begins(optimizer, args, kwargs)

    def after(optimizer: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            ends_uncompiled(optimizer)
        else:
            step_ends(optimizer)

    handles = (register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after))

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo
