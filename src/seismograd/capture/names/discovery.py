"""Finds what an unedited script has made: its modules, its optimizers, and what it calls them."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import torch

from seismograd.capture.names.script_variables import variables

# Modules that only wrap another one: the parameter names of the wrapped module are the user's.
WRAPPERS = frozenset(
    {
        "torch.nn.parallel.distributed.DistributedDataParallel",
        "torch.nn.parallel.data_parallel.DataParallel",
        "torch._dynamo.eval_frame.OptimizedModule",
        "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper",
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.OffloadWrapper",
    }
)


def is_wrapper(module: object) -> bool:
    """Whether the module's class, or a class it extends, is one that only wraps another module."""
    return any(f"{c.__module__}.{c.__qualname__}" in WRAPPERS for c in type(module).__mro__)


def children(module: torch.nn.Module) -> Mapping[str, Any]:
    """The direct submodules by attribute name, those of a half-made module included."""
    found: Mapping[str, Any] = vars(module).get("_modules") or {}
    return {name: child for name, child in found.items() if child is not None}


@dataclass(frozen=True, slots=True)
class DiscoveredObjects:
    """What lives in the process: every module and optimizer that can be seen, and what the
    script calls them (id of the object to name).
    """

    modules: tuple[torch.nn.Module, ...] = ()
    optimizers: tuple[torch.optim.Optimizer, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict[int, str])


FEW = 256  # of the script's things, where a look must be quick


def discover_objects(everywhere: bool = True) -> DiscoveredObjects:
    """Look at the script's variables and, `everywhere`, at all that the garbage collector tracks.

    The variables alone are quick but miss what is held elsewhere; the collector takes about 0.1 s
    and shows nothing that `gc.freeze` was called on.
    """
    named = variables() if everywhere else variables(FEW)
    modules: dict[int, torch.nn.Module] = {}
    optimizers: dict[int, torch.optim.Optimizer] = {}
    things: Iterable[object] = chain(
        (thing for thing, _ in named.values()), gc.get_objects() if everywhere else ()
    )
    for thing in things:
        # isinstance would ask proxies for their __class__
        if issubclass(type(thing), torch.nn.Module):
            modules[id(thing)] = cast(torch.nn.Module, thing)
        elif issubclass(type(thing), torch.optim.Optimizer):
            optimizers[id(thing)] = cast(torch.optim.Optimizer, thing)
    for module in list(modules.values()):
        modules.update({id(m): m for m in descendants(module) if id(m) not in modules})
    return DiscoveredObjects(
        tuple(modules.values()),
        tuple(optimizers.values()),
        {key: name for key, (_, name) in named.items()},
    )


def descendants(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The submodules below a module, each as often as it is held."""
    for child in children(module).values():
        yield child
        yield from descendants(child)


def roots(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """The modules that no other one holds."""
    listed = list(modules)
    held = {id(child) for module in listed for child in children(module).values()}
    return [module for module in listed if id(module) not in held]
