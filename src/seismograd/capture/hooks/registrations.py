"""What the program makes: hooks of torch for the parameters and modules that a module registers,
and patches of what makes an optimizer, and of what a copied or loaded one gets its state by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.names.made_objects import MADE


def install(_: EventHub) -> Undo:
    """Remember what is made from now on. No session is told: it looks when it wants to know."""

    def registers(module: torch.nn.Module, _name: str, _part: object) -> None:
        if not torch.compiler.is_compiling():
            MADE.add(module)

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def makes(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            if not torch.compiler.is_compiling():
                MADE.add(self)
            return result

        return makes

    MADE.begin()
    handles = (
        register_module_parameter_registration_hook(registers),
        register_module_module_registration_hook(registers),
    )
    undos: list[Undo] = [
        replace(owner, name, wrapped(vars(owner)[name]))
        for owner, name in (
            (torch.optim.Optimizer, "__init__"),
            (torch.optim.Optimizer, "__setstate__"),
            (torch.nn.Module, "__setstate__"),
        )
    ]
    return undo_all([MADE.end, *(handle.remove for handle in handles), *undos])
