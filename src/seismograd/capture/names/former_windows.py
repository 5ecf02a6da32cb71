"""The windows of optimizers that are gone: which one takes a window over, and which had backwards
that no step has used.
"""

from __future__ import annotations

import weakref
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch

from seismograd.capture.loop.optimizer_window import OptimizerWindow

MAX_LEFT = 16

FormerKey = tuple[str, tuple[int, ...]]  # class, ids of the parameters


@dataclass(frozen=True, slots=True)
class Former:
    """A window whose optimizer may be gone, and the first of its parameters."""

    window: OptimizerWindow
    first: weakref.ref[torch.Tensor]


class FormerWindows:
    """Remembers every window that was opened, by the class of its optimizer and its parameters."""

    def __init__(self) -> None:
        self._opened: dict[FormerKey, Former] = {}
        self._left: list[OptimizerWindow] = []

    def opened(
        self, window: OptimizerWindow, kind: str, parameters: Sequence[torch.Tensor]
    ) -> None:
        """Remember the window of an optimizer of this class over these parameters."""
        if parameters:
            first = weakref.ref(parameters[0])
            self._opened[kind, tuple(map(id, parameters))] = Former(window, first)

    def predecessor(
        self,
        kind: str,
        parameters: Sequence[torch.Tensor],
        open_windows: Container[OptimizerWindow],
    ) -> OptimizerWindow | None:
        """Return the window of a vanished optimizer of the same class over the same parameters: for
        readers of the record its replacement is the same optimizer. Those of `open_windows` are
        none.
        """
        former = self._opened.get((kind, tuple(map(id, parameters))))
        if former is None or former.window in open_windows:
            return None
        if not parameters or former.first() is not parameters[0]:
            return None
        return former.window

    def closed(self, window: OptimizerWindow) -> None:
        """Note that an optimizer is gone: a function that has returned took it along, but what it
        left is still left.
        """
        if window.num_unused() and len(self._left) < MAX_LEFT:
            self._left.append(window)

    def left(self, open_windows: Container[OptimizerWindow]) -> list[OptimizerWindow]:
        """Return the windows that no other optimizer has taken over, if they had backwards that no
        step had used.
        """
        return [window for window in self._left if window not in open_windows]

    def clear(self) -> None:
        """Forget every window."""
        self._opened.clear()
        self._left.clear()
