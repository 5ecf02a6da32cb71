"""`clip_grad_norm_`, `clip_grad_value_` and `clip_grads_with_norm_`, under both names that torch
gives them.
"""

from __future__ import annotations

from functools import wraps
from types import GeneratorType
from typing import Any

import torch
from torch.nn import utils
from torch.nn.utils import clip_grad

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all

NORM, VALUE = 1, 2
KINDS = {"clip_grad_norm_": NORM, "clip_grads_with_norm_": NORM, "clip_grad_value_": VALUE}


def _listed(parameters: Any) -> tuple[list[Any], Any]:
    """The parameters as a list, and something to hand on in their place: a generator can be read
    only once.
    """
    if isinstance(parameters, torch.Tensor):
        return [parameters], parameters
    listed: list[Any] = list(parameters)
    return listed, (p for p in listed) if isinstance(parameters, GeneratorType) else listed


def _wrap(hub: EventHub, original: Any, kind: int) -> Any:
    @wraps(original)
    def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not hub.listening:
            return original(parameters, *args, **kwargs)
        listed, parameters = _listed(parameters)
        hub.tell("clip_begins", listed)
        result = original(parameters, *args, **kwargs)
        limit = kwargs.get(
            "clip_value" if kind == VALUE else "max_norm", args[0] if args else float("nan")
        )
        total = (
            result
            if result is not None
            else kwargs.get("total_norm", args[1] if kind == NORM and len(args) > 1 else None)
        )
        hub.tell("clip_ends", kind, limit, total)
        return result

    return clip


def install(hub: EventHub) -> Undo:
    """Tell the hub of every clip: before it, so that the gradients can be read first, and after
    it.
    """
    undos: list[Undo] = []
    for name, kind in KINDS.items():
        original = vars(utils).get(name)
        if original is None:  # clip_grads_with_norm_ came with torch 2.6
            continue
        wrapper = _wrap(hub, original, kind)
        undos += [
            replace(owner, name, wrapper)
            for owner in (clip_grad, utils)
            if vars(owner).get(name) is original
        ]
    return undo_all(undos)
