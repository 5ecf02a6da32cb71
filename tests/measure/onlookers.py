"""Modes and a subclass of tensors that note every call they see."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Loud(Tensor):
    """A tensor whose functions are seen; `seen` is of all of them."""

    seen: ClassVar[list[object]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs)


@contextmanager
def onlookers() -> Generator[list[object]]:
    """What is seen within: by a mode for functions, by one for operations, by `Loud` tensors."""
    Loud.seen.clear()

    class Functions(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            Loud.seen.append(func)
            return func(*args, **(kwargs or {}))

    class Dispatches(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            Loud.seen.append(func)
            return func(*args, **(kwargs or {}))

    with Functions(), Dispatches():
        yield Loud.seen
