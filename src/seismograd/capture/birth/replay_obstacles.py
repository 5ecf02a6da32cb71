"""Why calling a model once more would not be exact, or would be noticed."""

from __future__ import annotations

import dis
import inspect
import resource
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch

from seismograd.capture.birth.held_calls import HeldCall

MAX_FUNCTIONS = 500
# what is noticed outside of the model: functions, methods of anything, and methods of the model
FUNCTIONS = frozenset({"print", "open", "input", "wandb", "logging", "logger", "log", "tqdm"})
METHODS = frozenset({"log_dict", "add_scalar", "write", "info", "warning", "debug", "backward"})
OWN_METHODS = frozenset({"log"})
COLLECTIVE = frozenset(
    {
        *("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_single"),
        *("reduce_scatter", "reduce_scatter_single", "reduce_scatter_tensor", "broadcast"),
        *("barrier", "send", "recv", "all_to_all", "all_to_all_single"),
    }
)
WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def obstacle(call: HeldCall) -> str:
    """Return why a call cannot be repeated, as `without_replay` of a fact says it; empty: it can
    be.
    """
    model = call.model()
    if model is None:
        return "differs"
    if call.problem:
        return call.problem
    if not call.is_unchanged():
        return "changed"
    if _is_short_of_memory():
        return "memory"
    modules = list(model.modules())
    if _has_hooks(modules):
        return "hooks"
    if any(getattr(each, "_compiled_call_impl", None) is not None for each in modules):
        return "compiled"
    if any(isinstance(each, torch.nn.SyncBatchNorm) for each in modules):
        return "collective"
    for code in _codes(modules):
        if not COLLECTIVE.isdisjoint(code.co_names):
            return "collective"
        if _is_noticed(code):
            return "stateful"
    return ""


def _is_noticed(code: CodeType) -> bool:
    """Return whether running this code may be noticed outside of the model."""
    before = ""
    for each in dis.get_instructions(code):
        name = str(each.argval)
        is_method = each.opname in ("LOAD_METHOD", "LOAD_ATTR")
        if (
            each.opname in WRITES
            or (each.opname == "LOAD_GLOBAL" and name in FUNCTIONS)
            or (is_method and (name in METHODS or (before == "self" and name in OWN_METHODS)))
        ):
            return True
        before = name if each.opname == "LOAD_FAST" else ""
    return False


def _has_hooks(modules: list[torch.nn.Module]) -> bool:
    everywhere = vars(torch.nn.modules.module)
    if any(everywhere.get(f"_global{name}") for name in HOOKS):
        return True
    return any(vars(module).get(name) for module in modules for name in HOOKS)


def _codes(modules: list[torch.nn.Module]) -> Iterator[CodeType]:
    """Yield the code that the forward passes of these modules may run, as far as it is the
    program's: methods and functions that they name.
    """
    kinds = {type(module) for module in modules}
    stack: list[tuple[FunctionType, type | None]] = [
        (kind.forward, kind) for kind in kinds if isinstance(kind.forward, FunctionType)
    ]
    seen: set[CodeType] = set()
    while stack and len(seen) < MAX_FUNCTIONS:
        function, kind = stack.pop()
        code = function.__code__
        if code in seen or function.__module__.startswith("torch."):
            continue
        seen.add(code)
        yield code
        yield from (each for each in code.co_consts if isinstance(each, CodeType))
        for name in code.co_names:
            found: Any = function.__globals__.get(name)
            if not isinstance(found, FunctionType) and kind is not None:
                found = inspect.getattr_static(kind, name, None)
            if isinstance(found, FunctionType):
                stack.append((found, kind))


def _is_short_of_memory() -> bool:
    """Return whether less memory is left than this process already has; false where the system
    does not tell.
    """
    try:
        system = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) for line in system if line.startswith("MemAvail"))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError, StopIteration):
        return False
    return available * 1024 < pages * resource.getpagesize()
