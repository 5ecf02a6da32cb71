"""Name the tensors that models were called with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import Tensor

from seismograd.capture.birth.held_calls import MAX_DEPTH, HeldCall
from seismograd.printable import printable
from seismograd.tensors.freed_memory import is_readable

MAX_BYTES = 256 * 2**20


def batch_tensors(calls: Sequence[HeldCall]) -> dict[str, Tensor]:
    """Return the arguments of calls whose tensors are as they were: `0` for the first positional
    one, `images` for one by keyword, `0.mask` for what a container holds; of several calls
    `call-1/0`, and so on.
    """
    named: dict[str, Tensor] = {}
    room = MAX_BYTES
    for number, call in enumerate(calls):
        if not call.is_unchanged():
            continue
        prefix = f"call-{number}/" if len(calls) > 1 else ""
        arguments = [*enumerate(call.args), *call.kwargs.items()]
        for key, argument in arguments:
            for name, tensor in _named(str(key), argument, 0):
                if is_readable(tensor) and tensor.nbytes <= room:
                    room -= tensor.nbytes
                    named[printable(prefix + name)] = tensor
    return named


def _named(name: str, thing: Any, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(thing, Tensor):
        yield name, thing
    elif depth <= MAX_DEPTH:
        items: Iterator[tuple[Any, Any]] = iter(())
        if isinstance(thing, dict):
            items = iter(cast("dict[Any, Any]", thing).items())
        elif isinstance(thing, tuple | list):
            items = enumerate(cast("list[Any]", thing))
        for key, value in items:
            yield from _named(f"{name}.{key}", value, depth + 1)
