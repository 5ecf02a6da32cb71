"""Detect whether a step is made by the step of an optimizer around it that changes weights itself,
as that of TRAC does: it may be none that torch's hooks announce.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch

from seismograd.capture.names.script_variables import variables_of


def is_within_writing_step(is_own: Callable[[Any], bool]) -> bool:
    """Return whether this thread is inside the step of another optimizer that changes tensors;
    `is_own` tells the one that steps. Those of Accelerate and Lightning only pass the call on.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "step" and _writes(frame, is_own):
            return True
        frame = frame.f_back
    return False


def _writes(frame: FrameType, is_own: Callable[[Any], bool]) -> bool:
    code = frame.f_code
    owner = variables_of(frame).get(code.co_varnames[0]) if code.co_argcount else None
    if not issubclass(type(owner), torch.optim.Optimizer) or is_own(owner):
        return False
    for each in type(owner).__mro__:
        codes = [_code(function) for function in vars(each).values()]
        if code in codes:
            return any(map(_changes_tensors, codes))
    return _changes_tensors(code)


def _code(function: Any) -> CodeType | None:
    """Return the code of a method, also of one that is wrapped, as by `torch.no_grad()`."""
    function = inspect.unwrap(function) if isinstance(function, FunctionType) else None
    return None if function is None else function.__code__


def _changes_tensors(code: CodeType | None) -> bool:
    """Return whether it names a function of tensors that works in place, or `data`."""
    return code is not None and any(
        name == "data" or (name.endswith("_") and not name.endswith("__")) for name in code.co_names
    )
