"""Watch every operation of a model that is called once more: the first that gives a non-finite
number of finite ones, with its module and the script's line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seismograd.capture.birth.birth import nonfinite
from seismograd.capture.birth.held_calls import tensors_in
from seismograd.capture.birth.operation import Operation, readable
from seismograd.capture.birth.source_line import text_of
from seismograd.capture.loop.call_sites import CallSites

MODULE_FILE = str(torch.nn.modules.module.__file__)
COLLECTIVES = ("c10d", "_c10d_functional", "c10d_functional")
# these write infinities on purpose, or nothing that was computed
ON_PURPOSE = frozenset(
    {
        *("masked_fill", "fill", "full", "full_like", "where", "scalar_tensor", "lift_fresh"),
        *("new_full", "zero", "constant_pad_nd", "detach", "clone", "triu", "tril"),
    }
)
UNWRITTEN = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"})


class ReplayObstacleError(Exception):
    """An operation that must not be repeated."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation is called: the index of the line, its text, and the path of the module."""

    site: int
    text: str
    module: str


@dataclass(frozen=True, slots=True)
class Spoiled:
    """The first operation behind a tensor that is not finite; `operation` is `None` where the
    tensor was given. `is_meant`: it is a mask of infinities.
    """

    operation: Operation | None
    place: Place
    given: Tensor | None = None
    is_meant: bool = False


class ReplayMode(TorchDispatchMode):
    """Follows non-finite numbers through the operations of a forward pass."""

    def __init__(self, model: torch.nn.Module, outer: FrameType, call_sites: CallSites) -> None:
        super().__init__()
        modules = cast("Iterator[tuple[str, torch.nn.Module]]", model.named_modules())
        self._names = {id(module): name for name, module in modules}
        self._outer, self._call_sites = outer, call_sites
        self._spoiled: dict[int, Spoiled] = {}  # by storage
        self._alive: list[Tensor] = []  # what is spoiled, so that no storage takes its place
        self.places: dict[int, Place] = {}  # by the number of a node

    def of(self, tensor: Tensor) -> Spoiled | None:
        """Return what spoiled a tensor; `None` where it is finite, or was not seen."""
        return self._spoiled.get(_key(tensor))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func.namespace in COLLECTIVES:
            raise ReplayObstacleError("collective")
        place = self._place()
        number = int(torch._C._autograd._get_sequence_nr()) - 1  # pyright: ignore
        self.places.setdefault(number, place)
        name = func._schema.name.rpartition("::")[2].strip("_")
        in_place = func._schema.name.endswith("_")
        operands = self._operands(func, args, given)
        before = {
            key: tensor.clone() if in_place and key == "self" else tensor
            for key, tensor in operands.items()
        }
        bad_before = [tensor for tensor in before.values() if nonfinite(tensor) is not None]
        known = [self.of(tensor) for tensor in operands.values()]
        result = func(*args, **given)
        if name not in UNWRITTEN:
            for output in tensors_in(result):
                self._judge(output, name, before, bad_before, known, func, args, given, place)
        return result

    def _judge(
        self,
        output: Tensor,
        name: str,
        before: dict[str, Tensor],
        bad_before: list[Tensor],
        known: Sequence[Spoiled | None],
        func: Any,
        args: tuple[Any, ...],
        given: dict[str, Any],
        place: Place,
    ) -> None:
        """Learn whether a result is not finite, and since when."""
        held = readable(output)
        bad = None if held is None else nonfinite(held)
        if held is None or bad is None:
            self._spoiled.pop(_key(output), None)
            return
        earlier = [each for each in known if each is not None]
        first = next((each for each in earlier if not each.is_meant), None)
        has_nan = bool(torch.isnan(held).any())
        had_nan = any(bool(torch.isnan(tensor).any()) for tensor in bad_before)
        if first is not None:
            spoiled = first
        elif bad_before and (had_nan or not has_nan or not earlier):
            if earlier:
                spoiled = earlier[0]
            else:
                operation = Operation(name, before, _settings(func, args, given), held)
                spoiled = Spoiled(None, place, bad_before[0])
                if not had_nan and name in ON_PURPOSE:
                    spoiled = Spoiled(operation, place, is_meant=True)
        else:
            operation = Operation(name, before, _settings(func, args, given), held)
            spoiled = Spoiled(operation, place, is_meant=name in ON_PURPOSE and not has_nan)
        self._spoiled[_key(output)] = spoiled
        self._alive.append(output)

    def _operands(
        self, func: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return the real tensors that an operation is given, by the names of its signature."""
        found: dict[str, Tensor] = {}
        for name, value in _named(func, args, given):
            for number, tensor in enumerate(tensors_in(value)):
                held = readable(tensor)
                if held is not None:
                    found[name if number == 0 else f"{name}{number}"] = held
        return found

    def _place(self) -> Place:
        """Return the innermost line of the script, or of a library, within the model, and the
        innermost module.
        """
        frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        module: str | None = None
        start = frame
        while frame is not None and frame is not self._outer:
            code = frame.f_code
            if module is None and code.co_name == "_call_impl" and code.co_filename == MODULE_FILE:
                module = self._names.get(id(frame.f_locals.get("self")))
            frame = frame.f_back
        inner = self._call_sites.inner(start, self._outer)
        if inner is None:
            return Place(-1, "", module or "")
        code, line = inner.f_code, inner.f_lineno
        site = self._call_sites.at(code.co_filename, line, code.co_qualname)
        # nobody changes a line of a library
        is_own = self._call_sites.is_of_script(code.co_filename)
        text = text_of(code.co_filename, line) if is_own else ""
        return Place(site, text, module or "")


def _named(func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> list[tuple[str, Any]]:
    names = [argument.name for argument in func._schema.arguments]
    return [*zip(names, args, strict=False), *given.items()]


def _settings(func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in _named(func, args, given)
        if not isinstance(value, Tensor) and value is not None
    }


def _key(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
    except (RuntimeError, NotImplementedError):
        return id(tensor)
