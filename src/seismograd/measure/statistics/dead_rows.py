"""Count the rows without any gradient since the last sample: units that do not learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class DeadRows:
    """Remembers, per parameter, which rows had a scalar other than zero since the last sample.

    The memory is one byte a row, on the gradient's device.
    """

    def __init__(self) -> None:
        self._alive: dict[int, Tensor] = {}  # key -> (R,) bool

    def observe(self, key: int, alive: Tensor) -> None:
        """Note which rows of a parameter's gradient hold a scalar other than zero now  # (R,)
        bool.
        """
        before = self._alive.get(key)
        if before is not None and before.shape == alive.shape and before.device == alive.device:
            alive = alive | before
        self._alive[key] = alive

    def take(self, keys: Sequence[int]) -> Tensor:
        """Return how many rows were never alive, of similar parameters that were observed  # (k,);
        and forget them.
        """
        return (~torch.stack([self._alive.pop(key) for key in keys])).sum(1)
