"""Name parameters as the user would: from the outermost module that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from seismograd.capture.names.discovery import children, is_wrapper
from seismograd.capture.names.gathered_parameters import originals

MAX_BEHIND = 16  # operations between a parameter and an attribute that is computed from it


@dataclass(frozen=True, slots=True)
class NamedParameter:
    """A parameter, its name, its other names (tied weights), and the class of the module that holds
    it.
    """

    tensor: torch.Tensor
    name: str
    module: str
    aliases: tuple[str, ...] = ()


def walk(
    module: torch.nn.Module, prefix: str = "", seen: frozenset[int] = frozenset()
) -> Iterator[tuple[str, torch.Tensor, str]]:
    """Yield every (name, parameter, class of its module) below a module in the order of
    registration, with wrappers left out of the names.

    A tied parameter comes once for each of its names.
    """
    if id(module) in seen:
        return
    seen = seen | {id(module)}
    parameters: Mapping[str, torch.Tensor | None] = vars(module).get("_parameters") or {}
    for name, parameter in parameters.items():
        if parameter is not None:
            yield f"{prefix}{name}", parameter, type(module).__name__
    for name, child in children(module).items():
        yield from walk(child, prefix if is_wrapper(module) else f"{prefix}{name}.", seen)


def hidden(
    module: torch.nn.Module, prefix: str = "", seen: frozenset[int] = frozenset()
) -> Iterator[tuple[str, torch.Tensor, str]]:
    """Yield what `walk` does not see: the parameters of modules in plain lists, tuples and dicts
    that are attributes of a module or one below it.
    """
    # Lists may lead back, as those of FullyShardedDataParallel do, which has itself in one.
    if id(module) in seen:
        return
    seen = seen | {id(module)}
    for name, value in list(vars(module).items()):
        if name in ("_parameters", "_modules", "_buffers"):
            continue
        items = (  # pyright: ignore[reportUnknownVariableType]
            enumerate(value)  # pyright: ignore[reportUnknownArgumentType]
            if isinstance(value, list | tuple)
            else value.items()
            if isinstance(value, dict)
            else ()
        )
        for key, part in items:  # pyright: ignore
            if isinstance(part, torch.nn.Module):
                yield from walk(part, f"{prefix}{name}.{key}.")
                yield from hidden(part, f"{prefix}{name}.{key}.", seen)
            elif isinstance(part, torch.nn.Parameter):
                yield f"{prefix}{name}.{key}", part, type(module).__name__
    for name, child in children(module).items():
        yield from hidden(child, prefix if is_wrapper(module) else f"{prefix}{name}.", seen)


def behind_attributes(
    module: torch.nn.Module, prefix: str = ""
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters that attributes of a module or one below it are computed from, with the
    names of these: `nn.Parameter(…) * scale` is a plain tensor, which a module does not register.
    """
    modules = cast("Iterator[tuple[str, torch.nn.Module]]", module.named_modules())
    for path, each in modules:
        for name, value in list(vars(each).items()):
            node = value.grad_fn if isinstance(value, torch.Tensor) else None
            for leaf in _leaves_behind(node):
                yield f"{prefix}{path}.{name}" if path else f"{prefix}{name}", leaf


def _leaves_behind(node: Any) -> list[torch.nn.Parameter]:
    """Return the parameters that a tensor is computed from, in a few operations."""
    stack, seen = [node], 0
    found: list[torch.nn.Parameter] = []
    while stack and seen < MAX_BEHIND:
        node, seen = stack.pop(), seen + 1
        if node is None:
            continue
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, torch.nn.Parameter):
            found.append(leaf)
        stack += [source for source, _ in node.next_functions]
    return found


def frozen_in_name(module: torch.nn.Module) -> set[int]:
    """Return the ids of parameters that train although `requires_grad = False` was set on a module
    that holds them, which has no effect.
    """
    found: set[int] = set()
    sharded = originals(module.modules())
    for each in module.modules():
        if vars(each).get("requires_grad") is False:
            found.update(id(sharded.get(id(p), p)) for p in each.parameters() if p.requires_grad)
    return found


def named(module: torch.nn.Module, prefix: str = "") -> list[NamedParameter]:
    """Return the parameters below a module, each once; the sharded one for a gathered one."""
    sharded = originals(module.modules())
    names: dict[int, list[str]] = {}
    first: dict[int, tuple[torch.Tensor, str]] = {}
    for name, registered, kind in walk(module, prefix):
        tensor = sharded.get(id(registered), registered)
        names.setdefault(id(tensor), []).append(name)
        first.setdefault(id(tensor), (tensor, kind))
    return [
        NamedParameter(tensor, names[key][0], kind, tuple(dict.fromkeys(names[key][1:])))
        for key, (tensor, kind) in first.items()
    ]


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the user's own module inside any nesting of wrappers."""
    while is_wrapper(module):
        inner = next(iter(children(module).values()), None)
        if inner is None:
            return module
        module = inner
    return module


def model_name(module: torch.nn.Module, variables: Mapping[int, str]) -> str:
    """Return the script's name for the model, else the name of its class."""
    return variable_of(module, variables) or type(unwrapped(module)).__name__


def variable_of(module: torch.nn.Module, variables: Mapping[int, str]) -> str:
    """Return the script's name for the model, empty where it has none."""
    return variables.get(id(module)) or variables.get(id(unwrapped(module))) or ""


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return the names in order, with a number appended to repeated ones."""
    used = set(taken)
    result: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        result.append(candidate)
    return result


def loose_name(
    tensor: torch.Tensor,
    optimizer: str,
    group: int,
    position: int,
    given: str | None,
    variables: Mapping[int, str],
) -> str:
    """Return a name for a parameter outside any module: the one given to the optimizer, else the
    script's variable, else its position in the optimizer.
    """
    return given or variables.get(id(tensor)) or f"{optimizer}.group{group}.{position}"
