"""Our calls leave the program's modes, and whatever ends them, the modes are as they were."""

from __future__ import annotations

import ast
import gc
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seismograd.tensors import isolation
from seismograd.tensors.isolation import (
    Guards,
    GuardsInPython,
    in_own_context,
    without_user_modes,
)

KINDS = [
    pytest.param(Guards, id="extension"),
    pytest.param(GuardsInPython, id="in Python"),
]


NAME = isolation.__name__


class AlarmError(Exception):
    """The program's own."""


def state() -> tuple[bool, bool, bool]:
    """Whether functions of subclasses are called, graphs are recorded, and calls are cast."""
    ones = torch.ones(2, 2)
    return (
        torch._C._is_torch_function_enabled(),
        torch.is_grad_enabled(),
        (ones @ ones).dtype == torch.bfloat16,
    )


def put_back() -> None:
    torch.set_grad_enabled(True)
    assert torch._C._is_torch_function_enabled()


@pytest.mark.parametrize("kind", KINDS)
def test_inside_nothing_is_recorded_nor_cast_nor_seen(kind: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        before = state()
        assert before == (True, True, True)
        with kind():
            assert state() == (False, False, False)
            with kind():
                assert state() == (False, False, False)
            assert state() == (False, False, False)
        assert state() == before
    with torch.no_grad():
        with kind():
            pass
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_raised_inside_goes_on_and_leaves_nothing_behind(kind: Any) -> None:
    before = state()
    with pytest.raises(AlarmError), kind():
        raise AlarmError
    assert state() == before


def test_the_modes_of_the_dispatcher_are_left_too() -> None:
    seen: list[Any] = []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Seeing():
        with without_user_modes():
            torch.ones(2)
        assert seen == []
        torch.ones(2)
    assert len(seen) == 1


@pytest.mark.skipif(Guards is GuardsInPython, reason="the extension is not built")
def test_an_alarm_that_raises_at_any_moment_leaves_nothing_behind() -> None:
    kept: list[BaseException] = []  # as a notebook keeps the last one, with its frames

    def handler(*_: object) -> None:
        raise AlarmError

    before, modes = signal.signal(signal.SIGALRM, handler), state()
    # what is raised within a callback of the collector, as hypothesis has one, stays in there
    gc.collect()
    gc.disable()
    try:
        for number in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.000001 * number)
                while True:
                    with without_user_modes():
                        pass
            except AlarmError as error:
                kept.append(error)
            assert state() == modes, number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
        kept.clear()
        put_back()


@pytest.mark.skipif(Guards is GuardsInPython, reason="the extension is not built")
def test_what_is_raised_at_any_call_leaves_nothing_behind() -> None:
    modes, number, was_raised = state(), 0, True
    while was_raised:
        number += 1
        was_raised = False
        left = number

        def profile(frame: FrameType, event: str, _: object) -> None:
            nonlocal left, was_raised
            # at calls of C functions an error would keep them from being made, as no signal does
            if event not in ("call", "return") or frame.f_globals.get("__name__") != NAME:
                return
            left -= 1
            if left == 0:
                was_raised = True
                raise AlarmError

        with suppress(AlarmError):
            sys.setprofile(profile)
            with without_user_modes():
                pass
            sys.setprofile(None)
        sys.setprofile(None)
        assert state() == modes, number
    assert number > 2


@pytest.mark.parametrize("method", ["__enter__", "__exit__"])
@pytest.mark.parametrize("event", ["call", "return"])
def test_what_is_raised_in_errstate_leaves_numpy_as_the_program_set_it(
    method: str, event: str
) -> None:
    @in_own_context
    def quotient(values: Any) -> Any:
        with np.errstate(divide="ignore"):
            return values / 0

    def profile(frame: FrameType, each: str, _: object) -> None:
        if each == event and frame.f_code is getattr(np.errstate, method).__code__:
            raise AlarmError

    with np.errstate(divide="raise"):
        before = np.geterr()
        try:
            sys.setprofile(profile)
            with pytest.raises(AlarmError):
                quotient(np.ones(1))
        finally:
            sys.setprofile(None)
        assert np.geterr() == before


SETS_MODES = {"errstate", "catch_warnings", "lstsq", "solve", "inv", "svd", "eigh", "eigvalsh"}


def sets_modes(function: ast.AST) -> bool:
    """Whether a function uses NumPy in a way that sets modes of the program's."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in SETS_MODES
        and ast.unparse(node).startswith(("np.", "warnings."))
        for node in ast.walk(function)
    )


def test_what_runs_in_the_programs_thread_sets_numpys_modes_in_its_own_context_only() -> None:
    source, found = Path(isolation.__file__).parents[1], 0
    for folder in ("capture", "control", "distributed", "measure", "tensors"):
        for path in sorted(source.joinpath(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef) and sets_modes(node):
                    found += 1
                    decorators = [ast.unparse(each) for each in node.decorator_list]
                    assert in_own_context.__name__ in decorators, (path.name, node.name)
    assert found > 5
