"""Put everything that calling a model may change back to what it was, bit for bit: random numbers,
buffers, attributes, modes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.birth.held_calls import HeldCall
from seismograd.capture.birth.replay_mode import ReplayObstacleError
from seismograd.random_states import same_random_numbers

CONTAINERS = (list, dict, set)


@contextmanager
def as_it_was(model: torch.nn.Module, call: HeldCall) -> Generator[None, None, None]:
    """Inside, random numbers, autocast and gradients are as at the begin of a call, and torch's
    functions can be overridden as in a program; afterwards all is as it was before.
    """
    with ExitStack() as stack:
        stack.enter_context(same_random_numbers())
        stack.enter_context(_same_torch_numbers())
        stack.enter_context(_same_attributes(model))
        stack.enter_context(_no_warnings())
        stack.enter_context(torch._C._EnableTorchFunction())  # pyright: ignore
        stack.enter_context(torch.enable_grad())
        enabled, dtype = call.autocast or (False, _dtype_without_autocast())
        stack.enter_context(torch.autocast("cpu", dtype=dtype, enabled=enabled))
        before = torch.default_generator.get_state() if call.random is None else call.random
        torch.default_generator.set_state(before)
        yield
        if call.random is None and not torch.equal(before, torch.default_generator.get_state()):
            raise ReplayObstacleError("differs")  # with other numbers than the call


def _dtype_without_autocast() -> torch.dtype:
    """Return the dtype of an autocast that a model turns on without one."""
    if torch.is_autocast_enabled("cpu"):  # with its own, which is not known to have been that
        raise ReplayObstacleError("differs")
    return torch.get_autocast_dtype("cpu")


@contextmanager
def _same_torch_numbers() -> Generator[None, None, None]:
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def _same_attributes(model: torch.nn.Module) -> Generator[None, None, None]:
    """Restore the attributes of all modules, and what the containers among them hold; tensors that
    are no parameters are replaced by copies meanwhile.
    """
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    contents: list[tuple[Any, Any]] = []
    for module in model.modules():
        own = vars(module)
        kept.append((own, dict(own)))
        for name, value in list(own.items()):
            if isinstance(value, Tensor):
                own[name] = value.clone() if not value.requires_grad else value
            elif type(value) in CONTAINERS and name not in ("_modules", "_parameters"):
                contents.append((value, copy.copy(value)))
    try:
        yield
    finally:
        for own, before in kept:
            own.clear()
            own.update(before)
        for container, before in contents:
            if isinstance(container, list):
                container[:] = before
            else:
                container.clear()
                container.update(before)


@contextmanager
def _no_warnings() -> Generator[None, None, None]:
    """Show no warning twice; `catch_warnings` would make Python show earlier ones again."""
    shown_by = warnings.showwarning
    warnings.showwarning = lambda *_args, **_kwargs: None  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = shown_by
