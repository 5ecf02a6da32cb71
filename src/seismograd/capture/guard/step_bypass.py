"""Run something else in place of an optimizer's `step`, once.

Torch wraps the `step` of every optimizer in a function of its own, which calls the hooks and then
the original. A hook cannot stop it, but it can exchange what the wrapper calls next: then nothing
of the optimizer's own code runs, whatever that would do with gradients of zero or without any.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import torch

Step = Callable[..., Any]
NAME = "func"  # of the original, in torch's wrapper
MAX_WRAPPERS = 16


class StepBypass:
    """Exchanges what the wrapper around a running `step` calls next."""

    def __init__(self) -> None:
        self._cell: CellType | None = None
        self._original: Step | None = None

    def is_possible(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the `step` of this optimizer can be exchanged."""
        return _cell_of(type(optimizer)) is not None

    def arrange(
        self, optimizer: torch.optim.Optimizer, instead: Callable[[Step, Any, Any], Any]
    ) -> None:
        """Have `instead(original, args, kwargs)` called in place of the `step` of this optimizer,
        whose hooks are running.
        """
        self.restore()
        cell = _cell_of(type(optimizer))
        if cell is None:
            return
        original: Step = cell.cell_contents

        def once(*args: Any, **kwargs: Any) -> Any:
            # Another thread may step an optimizer of the same class meanwhile.
            if not args or args[0] is not optimizer:
                return original(*args, **kwargs)
            self.restore()
            return instead(original, args, kwargs)

        self._cell, self._original = cell, original
        cell.cell_contents = once

    def restore(self) -> None:
        """Put back what was exchanged and not called, because a hook of the program's raised."""
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.cell_contents = self._original
        self._original = None


def _cell_of(kind: type) -> CellType | None:
    """Return where torch's wrapper around the `step` of a class keeps the original; `None` where
    there is no such wrapper.
    """
    step: Any = next((vars(c)["step"] for c in kind.__mro__ if "step" in vars(c)), None)
    for _ in range(MAX_WRAPPERS):
        if not isinstance(step, FunctionType):
            return None
        code = step.__code__
        if NAME in code.co_freevars and _is_of_torch(code):
            cell: CellType = (step.__closure__ or ())[code.co_freevars.index(NAME)]
            return cell
        step = getattr(step, "__wrapped__", None)
    return None


def _is_of_torch(code: Any) -> bool:
    return bool(code.co_filename == torch.optim.Optimizer.profile_hook_step.__code__.co_filename)
