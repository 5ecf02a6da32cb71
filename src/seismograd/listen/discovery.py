"""Finds what an unedited script has made: its modules, its optimizers, and what it calls them."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import FrameType
from typing import Any, cast

import torch

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
class Found:
    """What lives in the process: every module and optimizer that can be seen, and what the script calls them (id of the object to name)."""

    modules: tuple[torch.nn.Module, ...] = ()
    optimizers: tuple[torch.optim.Optimizer, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict[int, str])


def look(everywhere: bool = True) -> Found:
    """Look at the script's variables and, `everywhere`, at all that the garbage collector tracks.

    The variables alone are quick but miss what is held elsewhere; the collector takes about 0.1 s and shows nothing that `gc.freeze` was
    called on.
    """
    named = _variables()
    modules: dict[int, torch.nn.Module] = {}
    optimizers: dict[int, torch.optim.Optimizer] = {}
    things: Iterable[object] = chain((thing for thing, _ in named.values()), gc.get_objects() if everywhere else ())
    for thing in things:
        if issubclass(type(thing), torch.nn.Module):  # isinstance would ask proxies for their __class__
            modules[id(thing)] = cast(torch.nn.Module, thing)
        elif issubclass(type(thing), torch.optim.Optimizer):
            optimizers[id(thing)] = cast(torch.optim.Optimizer, thing)
    for module in list(modules.values()):
        modules.update({id(m): m for m in descendants(module) if id(m) not in modules})
    return Found(tuple(modules.values()), tuple(optimizers.values()), {key: name for key, (_, name) in named.items()})


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


READS_ITS_OWN_VARIABLES = frozenset({"locals", "vars", "dir", "eval", "exec"})


def _variables_of(frame: FrameType) -> Mapping[str, Any]:
    """The variables of a running frame, leaving the frame as it was.

    Until Python 3.13 `f_locals` of a function is a dictionary that the frame keeps and `locals()` shares: it would hold on to what the
    function deletes later, and change under a function that keeps its `locals()`. So functions that might are passed over, and in the
    others it is emptied again.
    """
    code = frame.f_code
    if sys.version_info >= (3, 13) or not code.co_flags & inspect.CO_OPTIMIZED:
        return dict(frame.f_locals)
    if READS_ITS_OWN_VARIABLES.intersection(code.co_names):
        return {}
    shared = frame.f_locals
    copied = dict(shared)
    shared.clear()
    return copied


def _scopes() -> Iterator[Mapping[str, Any]]:
    """The variables of every function on the stack, innermost first, then those of the main program."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    own = __package__.split(".")[0] if __package__ else "seismograd"
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if module not in ("torch", own):
            yield _variables_of(frame)
        frame = frame.f_back
    main = sys.modules.get("__main__")
    if main is not None:
        yield vars(main)


INTERESTING = (torch.nn.Module, torch.optim.Optimizer, torch.Tensor)
MAX_ITEMS = 64


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A variable and, one level deep, what a list, a dict or the object `self` holds."""
    yield name, value
    kind = cast("type[object]", type(value))
    if name == "self" and not issubclass(kind, torch.nn.Module):
        yield from dict(getattr(value, "__dict__", {})).items()
    elif issubclass(kind, list | tuple):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value[:MAX_ITEMS]))
    elif issubclass(kind, dict) and len(value) <= MAX_ITEMS:
        yield from ((f"{name}[{key}]", part) for key, part in dict(value).items() if isinstance(key, str))


def _variables() -> dict[int, tuple[Any, str]]:
    """The modules, optimizers and tensors that the script has in variables, innermost first: the id of each to it and its name."""
    found: dict[int, tuple[Any, str]] = {}
    for scope in _scopes():
        for variable, content in list(scope.items()):
            if variable.startswith("_"):
                continue
            for name, value in _inside(variable, content):
                if issubclass(type(value), INTERESTING):
                    found.setdefault(id(value), (value, name))
    return found
