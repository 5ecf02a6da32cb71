"""Which modules of some models an X-ray looks at, and by which names."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch

from seismograd.capture.names.discovery import children, is_wrapper


@dataclass(frozen=True, slots=True)
class FollowedModule:
    """A module whose calls are heard. `is_whole`: it is measured, and what lies within is not."""

    module: weakref.ref[torch.nn.Module]
    name: str
    type: str
    is_whole: bool


def followed_modules(
    models: Iterable[tuple[torch.nn.Module, str]],
) -> tuple[dict[int, FollowedModule], list[torch.nn.Module]]:
    """Return the modules below these models, by their ids and with the names that their parameters
    have; and the models that are compiled, whose calls cannot be heard.
    """
    found: dict[int, FollowedModule] = {}
    compiled: list[torch.nn.Module] = []
    stack = [(model, prefix.removesuffix("."), prefix) for model, prefix in models][::-1]
    while stack:
        module, name, prefix = stack.pop()
        if id(module) in found:
            continue
        if is_compiled(module):
            compiled.append(module)
            continue
        below = children(module)
        is_whole = not below or isinstance(module, torch.nn.MultiheadAttention | torch.nn.RNNBase)
        if not is_wrapper(module):
            found[id(module)] = FollowedModule(
                weakref.ref(module), name or type(module).__name__, type(module).__name__, is_whole
            )
        if not is_whole or is_wrapper(module):
            for label, child in reversed(list(below.items())):
                own = prefix if is_wrapper(module) else f"{prefix}{label}."
                stack.append((child, own.removesuffix("."), own))
    return found, compiled


def is_compiled(module: Any) -> bool:
    """Return whether calls of a module run as compiled code."""
    kind: type = type(cast("object", module))
    return (
        f"{kind.__module__}.{kind.__qualname__}" == "torch._dynamo.eval_frame.OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
    )
