"""Find optimizers of a framework's own class, which torch's hooks do not see, by the parameters
they hold.

They are only inspected, never called: their parameters are read from their attributes as far as
these are plain lists and dictionaries.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch

GROUPS, RATES = ("param_groups", "param_lists"), ("param_groups", "hypers")


class Foreign:
    """One such optimizer: its class name, and its learning rate as long as it lives."""

    def __init__(self, optimizer: object) -> None:
        self.kind = type(optimizer).__name__
        self._reference = weakref.ref(optimizer)

    def lr(self) -> object:
        """Return the learning rate of its first group; `None` where it cannot be read."""
        alive = self._reference()
        held = {} if alive is None else vars(alive)
        for name in RATES:
            for group in _listed(held.get(name)):
                if isinstance(group, dict):
                    return cast("dict[str, Any]", group).get("lr")
        return None


def find_holder(parameters: Sequence[torch.Tensor]) -> Foreign | None:
    """Return the object that has a `step` and a `zero_grad` and holds any of these parameters in
    groups.
    """
    wanted, steps = {id(p) for p in parameters}, dict[type, bool]()
    for thing in gc.get_objects():
        kind = cast("type[object]", type(thing))
        known = steps.get(kind)
        if known is None:
            known = steps[kind] = _has_steps(kind)
        if known and any(id(tensor) in wanted for tensor in _held(thing)):
            try:
                return Foreign(thing)
            except TypeError:  # it does not support weak references
                return None
    return None


def _has_steps(kind: type[object]) -> bool:
    if issubclass(kind, torch.nn.Module | torch.optim.Optimizer) or not kind.__dictoffset__:
        return False
    names = {name for each in kind.__mro__ for name in vars(each)}
    return "step" in names and "zero_grad" in names


def _held(thing: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in its groups."""
    attributes = getattr(thing, "__dict__", {}) if type(thing).__dictoffset__ else {}
    for name in GROUPS:
        for group in _listed(attributes.get(name)):
            parameters = (
                cast("dict[str, Any]", group).get("params") if isinstance(group, dict) else group
            )
            yield from (p for p in _listed(parameters) if issubclass(type(p), torch.Tensor))


def _listed(value: object) -> list[Any]:
    """Return a list or a tuple, or what a wrapper class such as fastcore's keeps in `items`."""
    if type(value) in (list, tuple):
        return list(cast("list[Any]", value))
    if not type(value).__dictoffset__:
        return []
    items = vars(value).get("items")
    return cast("list[Any]", items) if type(items) is list else []
