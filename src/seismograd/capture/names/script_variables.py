"""Name the script's modules, optimizers and tensors: by a variable, or by the path from one, as
`net.layers[0]`.
"""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from types import FrameType, FunctionType, ModuleType
from typing import Any, cast

import torch

from seismograd.capture.names.zero_optimizer import zero_classes

READS_ITS_OWN_VARIABLES = frozenset({"locals", "vars", "dir", "eval", "exec"})
TORCHS = (torch.nn.Module, torch.optim.Optimizer, torch.Tensor)
NOT_THE_SCRIPTS = frozenset({"torch", "builtins", "numpy", __name__.partition(".")[0]})
MAX_ITEMS = 64  # of a list or a dictionary; MAX_VISITED of one whose first entry can be named
MAX_DEPTH = 4  # dots and brackets in a path
MAX_VISITED = 4096  # objects that are inspected

Scope = Mapping[str, Any]
Kinds = tuple[type[Any], ...]  # of what is named


def variables(most: int = MAX_VISITED) -> dict[int, tuple[Any, str]]:
    """Return the modules, optimizers and tensors that the script's variables lead to: the id of
    each to it and its name.

    A variable's name is best, that of the innermost function first. What lies in a list or a
    dictionary with others is named by its index there unless several of them have variables of
    their own: a single one belongs to a loop. `self` is no name: what it holds is named by the
    attribute, and a module that nothing else leads to by its class. At most `most` objects are
    inspected.
    """
    kinds = (*TORCHS, *zero_classes())
    starts: list[tuple[str, Any]] = []
    modules: list[tuple[str, Any]] = []  # those that are `self`, innermost first
    for scope in _scopes():
        for variable, content in list(scope.items()):
            if variable.startswith("_"):
                continue
            if variable != "self":
                starts.append((variable, content))
            elif issubclass(type(content), torch.nn.Module):
                modules.append((type(content).__name__, content))
            else:
                starts.extend(
                    (name, value)
                    for name, value in _attributes(content)
                    if not name.startswith("_")
                )
    of_loops = _led_to(starts, modules, most, frozenset(), kinds)[1]
    if of_loops:
        starts = [start for start in starts if id(start[1]) not in of_loops]
    return _led_to(starts, modules, most, of_loops, kinds)[0]


def _led_to(
    starts: Sequence[tuple[str, Any]],
    modules: Sequence[tuple[str, Any]],
    most: int,
    of_loops: Set[int],
    kinds: Kinds,
) -> tuple[dict[int, tuple[Any, str]], set[int]]:
    """Return the names, and the ids of those that have a loop variable's name besides their
    index.
    """
    found: dict[int, tuple[Any, str]] = {}
    for name, value in starts:
        if issubclass(type(value), kinds):
            found.setdefault(id(value), (value, name))
    direct = frozenset(found) | of_loops
    placed: set[int] = set()
    _follow(starts, found, direct, placed, most, kinds)
    for start in reversed(modules):
        _follow([start], found, direct, placed, most, kinds)
    return found, placed


def _follow(
    starts: Iterable[tuple[str, Any]],
    found: dict[int, tuple[Any, str]],
    direct: Set[int],
    placed: set[int],
    most: int,
    kinds: Kinds,
) -> None:
    """Add what these lead to, short paths first."""
    waiting = deque((name, value, 0) for name, value in starts)
    seen: set[int] = set()
    while waiting and most > 0:
        name, value, depth = waiting.popleft()
        most -= 1
        if depth == MAX_DEPTH or id(value) in seen:
            continue
        seen.add(id(value))
        parts = [
            (path, part) for path, part in _inside(name, value, kinds) if _may_lead_on(part, kinds)
        ]
        named = [part for _, part in parts if issubclass(type(part), kinds)]
        by_place = (
            _is_collection(value)
            and len(named) > 1
            and sum(id(part) in direct for part in named) <= 1
        )
        for path, part in parts:
            if issubclass(type(part), kinds):
                if by_place and id(part) in direct:
                    placed.add(id(part))
                found.setdefault(id(part), (part, path))
            waiting.append((path, part, depth + 1))


def _inside(name: str, value: Any, kinds: Kinds) -> Iterator[tuple[str, Any]]:
    """Yield what a variable holds one level deep, without calling any of the script's code."""
    kind = cast("type[object]", type(value))
    if issubclass(kind, list | tuple):
        parts = cast(
            "Iterator[Any]",
            list.__iter__(value) if issubclass(kind, list) else tuple.__iter__(value),
        )
        listed = list(islice(parts, MAX_VISITED))
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(_some(listed, kinds)))
    elif issubclass(kind, dict):
        if dict.__len__(value) <= MAX_VISITED:
            items = cast("dict[Any, Any]", dict.copy(value))
            listed = zip(items, _some(list(items.values()), kinds), strict=False)
            yield from ((f"{name}[{key}]", part) for key, part in listed if type(key) in (str, int))
    elif _is_the_scripts(kind) or issubclass(kind, torch.nn.Module):
        for attribute, part in _attributes(value):
            # Only a module's: skorch's nets have a list of that name.
            if attribute == "_modules" and isinstance(part, dict):
                yield from (
                    (f"{name}.{key}", child)
                    for key, child in dict(cast("dict[str, Any]", part)).items()
                    if child is not None
                )
            elif not attribute.startswith("_"):
                yield f"{name}.{attribute}", part


def _some(parts: list[Any], kinds: Kinds) -> list[Any]:
    """Return all of them if the first has something to name, otherwise a few."""
    return parts if parts and issubclass(type(parts[0]), kinds) else parts[:MAX_ITEMS]


def _is_collection(value: Any) -> bool:
    return issubclass(type(value), list | tuple | dict)


def _may_lead_on(value: Any, kinds: Kinds) -> bool:
    kind = cast("type[object]", type(value))
    return issubclass(kind, (*kinds, list, tuple, dict)) or _is_the_scripts(kind)


def _is_the_scripts(kind: type[object]) -> bool:
    """Return whether it is the class of an object that may hold something the script has made."""
    return (
        not issubclass(kind, type | ModuleType | FunctionType)
        and str(kind.__module__).partition(".")[0] not in NOT_THE_SCRIPTS
    )


def _attributes(value: Any) -> list[tuple[str, Any]]:
    try:
        held: Any = object.__getattribute__(value, "__dict__")
    except AttributeError:  # a class with slots
        return []
    copied = cast("dict[Any, Any]", dict.copy(held) if type(held) is dict else {})
    return [(name, part) for name, part in copied.items() if type(name) is str]


def variables_of(frame: FrameType) -> Scope:
    """Return the variables of a running frame, leaving the frame as it was.

    Until Python 3.13 `f_locals` of a function is a dictionary that the frame keeps and `locals()`
    shares: it would hold on to what the function deletes later, and change under a function that
    keeps its `locals()`. So functions that might do that are skipped, and for the others it is
    emptied again.
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


def _scopes() -> Iterator[Scope]:
    """Yield the variables of every function on the stack, innermost first, then those of the main
    program.
    """
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    own = __package__.split(".")[0] if __package__ else "seismograd"
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if module not in ("torch", own):
            yield variables_of(frame)
        frame = frame.f_back
    main = sys.modules.get("__main__")
    if main is not None:
        yield vars(main)
