"""Read the parameter groups of an optimizer and the parameters of a module from where torch keeps
them.

Properties, `__getattr__`, and the program's own container classes would run code that the program
has not called itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch

from seismograd.capture.names.discovery import children
from seismograd.capture.names.zero_optimizer import is_zero_optimizer, zero_groups
from seismograd.measure.native import tensor_reads


def groups_of(optimizer: Any) -> list[Any]:
    """Return its parameter groups; for an optimizer that keeps none of its own, those that it
    reports.
    """
    kept = vars(optimizer).get("param_groups")  # pyright: ignore
    if kept is None and is_zero_optimizer(optimizer):
        return zero_groups(optimizer)
    if type(kept) is list:  # pyright: ignore
        return kept.copy()  # pyright: ignore
    return _listed(optimizer.param_groups if kept is None else kept)


def attribute(thing: object, name: str) -> Any:
    """Return an attribute of the object itself, `None` for none; neither one of its class nor one
    computed on access.
    """
    kept: dict[str, Any] = vars(thing)
    return kept.get(name)


def setting(group: Any, key: str) -> Any:
    """Return the value of a group's key, `None` for none."""
    return dict.get(group, key) if isinstance(group, dict) else group.get(key)  # pyright: ignore


def held_by(optimizer: Any) -> list[torch.Tensor]:
    """Return the parameters of an optimizer, in its order."""
    groups = groups_of(optimizer)
    if len(groups) == 1:
        return _listed(setting(groups[0], "params"))
    return list(chain.from_iterable(_listed(setting(group, "params")) for group in groups))


def parameters_below(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield the parameters of a module and of those below it, as often as they are held."""
    seen: set[int] = set()
    stack = [module]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        own: Mapping[str, torch.Tensor | None] | None = vars(one).get("_parameters")
        if own is None:  # a scripted module keeps them in C++
            yield from one.parameters()
            continue
        yield from (parameter for parameter in own.values() if parameter is not None)
        stack.extend(children(one).values())


def num_parameters_below(module: torch.nn.Module) -> int:
    """Return how many `parameters_below` yields, without a call for each module."""
    num = tensor_reads.num_parameters_below(module)
    if num >= 0:
        return num
    num, seen, stack = 0, set[int](), [module]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        inside = vars(one)
        own: Mapping[str, torch.Tensor | None] | None = inside.get("_parameters")
        if own is None:
            num += len(list(one.parameters()))
            continue
        for parameter in own.values():
            if parameter is not None:
                num += 1
        below: Mapping[str, torch.nn.Module | None] = inside.get("_modules") or {}
        for child in below.values():
            if child is not None:
                stack.append(child)  # noqa: PERF401  # a comprehension would be one more call
    return num


def _listed(items: Any) -> list[Any]:
    if type(items) is list or not isinstance(items, list):
        return list(items)  # pyright: ignore
    return list.__getitem__(items, slice(None))  # pyright: ignore
