"""Discover what an unedited script has made: its modules, its optimizers, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import torch

from seismograd.capture.names.object_search import ObjectSearch
from seismograd.capture.names.script_variables import variables
from seismograd.capture.names.zero_optimizer import inner_optimizers, zero_classes

# Modules that only wrap another one: the user's parameter names are those of the wrapped module.
WRAPPERS = frozenset(
    {
        "torch.nn.parallel.distributed.DistributedDataParallel",
        "torch.nn.parallel.data_parallel.DataParallel",
        "torch._dynamo.eval_frame.OptimizedModule",
        "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper",
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.OffloadWrapper",
        "deepspeed.runtime.engine.DeepSpeedEngine",
    }
)


def is_wrapper(module: object) -> bool:
    """Return whether the module's class, or one of its bases, only wraps another module."""
    return any(f"{c.__module__}.{c.__qualname__}" in WRAPPERS for c in type(module).__mro__)


def children(module: torch.nn.Module) -> Mapping[str, Any]:
    """Return the direct submodules by attribute name, including those of a half-initialized
    module.
    """
    found: Mapping[str, Any] = vars(module).get("_modules") or {}
    return {name: child for name, child in found.items() if child is not None}


@dataclass(frozen=True, slots=True)
class DiscoveredObjects:
    """Everything visible in the process: modules, optimizers, and the script's names for them (id
    of the object to name).
    """

    modules: tuple[torch.nn.Module, ...] = ()
    optimizers: tuple[torch.optim.Optimizer, ...] = ()  # or of DeepSpeed's
    names: Mapping[int, str] = field(default_factory=dict[int, str])


FEW = 256  # of the script's objects, where a look must be quick


def discover_objects(
    everywhere: bool = True, search: ObjectSearch | None = None
) -> DiscoveredObjects:
    """Search the script's variables and, if `everywhere`, everything that the garbage collector
    tracks, or what is new there since the last time with the same `search`.

    Searching variables is quick but misses what is held elsewhere; the collector takes a few
    hundredths of a second and does not list objects frozen by `gc.freeze`.
    """
    named = variables() if everywhere else variables(FEW)
    if not everywhere:
        return among(named, ())
    kinds = (torch.nn.Module, torch.optim.Optimizer, *zero_classes())
    return among(named, (ObjectSearch() if search is None else search).instances(kinds))


def among(named: Mapping[int, tuple[Any, str]], others: Iterable[object]) -> DiscoveredObjects:
    """Return what there is among the script's variables (id to object and name) and these others,
    and below it.
    """
    modules: dict[int, torch.nn.Module] = {}
    optimizers: dict[int, torch.optim.Optimizer] = {}
    zeros: dict[int, Any] = {}
    zero_kinds = zero_classes()
    things: Iterable[object] = chain((thing for thing, _ in named.values()), others)
    for thing in things:
        # isinstance would ask proxies for their __class__
        if issubclass(type(thing), torch.nn.Module):
            modules[id(thing)] = cast(torch.nn.Module, thing)
        elif issubclass(type(thing), torch.optim.Optimizer):
            optimizers[id(thing)] = cast(torch.optim.Optimizer, thing)
        elif zero_kinds and issubclass(type(thing), zero_kinds):
            zeros[id(thing)] = thing
    for zero in zeros.values():
        for inner in inner_optimizers(zero):
            optimizers.pop(id(inner), None)
    optimizers.update(zeros)
    for module in list(modules.values()):
        modules.update({id(m): m for m in descendants(module) if id(m) not in modules})
    names = {key: name for key, (_, name) in named.items()}
    for thing, name in named.values():
        inside = _passes_for(thing)
        if id(inside) in zeros:
            names[id(inside)] = name
    return DiscoveredObjects(tuple(modules.values()), tuple(optimizers.values()), names)


def _passes_for(thing: object) -> object:
    """Return what is inside of an optimizer that only passes for one, as accelerate's does, which
    the script has a variable of.
    """
    own: Mapping[str, Any] = vars(thing) if issubclass(type(thing), torch.optim.Optimizer) else {}
    return own.get("optimizer")


def descendants(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the submodules below a module, each once: one may hold a module that holds it."""
    seen, stack = {id(module)}, [iter(children(module).values())]
    while stack:
        for child in stack[-1]:
            if id(child) not in seen:
                seen.add(id(child))
                yield child
                stack.append(iter(children(child).values()))
                break
        else:
            stack.pop()


def roots(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """Return the modules that no other one holds."""
    listed = list(modules)
    held = {id(child) for module in listed for child in children(module).values()}
    return [module for module in listed if id(module) not in held]
