"""When the parameters that optimizers hold last had a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import as_list, columns_where, integers
from seismograd.schema import IntArray, Parameter, RowBatch, State


@dataclass(slots=True)
class LastReached:
    """The last iteration with a gradient other than zero, of each; -1 where there was none.

    `columns` are theirs in the current blocks.
    """

    columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    _names: list[str] = field(default_factory=list[str])
    _last: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    # until the parameters last changed
    _before: dict[str, int] = field(default_factory=dict[str, int])

    def take_in(self, parameters: Sequence[Parameter]) -> None:
        """Go on with the parameters of the next blocks, which are others than before."""
        self._before.update(zip(self._names, self._last.tolist(), strict=True))
        self.columns = columns_where(parameters, lambda p: p.optimizer is not None)
        self._names = [parameters[column].name for column in as_list(self.columns)]
        self._last = np.array([self._before.get(name, -1) for name in self._names], np.int64)

    def read(self, block: RowBatch) -> None:
        """Note the gradients in a block."""
        finite = block.state[:, self.columns] == State.FINITE
        has = finite.any(axis=0)
        rows = len(block) - 1 - np.argmax(finite[::-1], axis=0)
        iterations = integers(block.steps, "iteration")
        self._last[has] = iterations[rows[has]]

    def was_held(self, name: str) -> bool:
        """Return whether an optimizer held the parameter before the parameters last changed."""
        return name in self._before

    def silent_since(self, step: int) -> dict[str, int]:
        """Return which had a gradient once and none from this step on, and the last step with
        one.
        """
        last = zip(self._names, self._last.tolist(), strict=True)
        return {name: at for name, at in last if 0 <= at < step}
