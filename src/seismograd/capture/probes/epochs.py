"""Count the epochs of a training: the iterations of its DataLoader that have backwards."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import Any, cast

MAX_LOADERS = 32
CountedEpochs = tuple[float, float, float]  # epochs, backwards in the longest, batch size


@dataclass(slots=True)
class Loader:
    """A DataLoader. An epoch is an iteration of it with backwards; the last may still be
    running.
    """

    alive: weakref.ref[Any]
    batch_size: float
    begun_at: int  # backwards when it was last iterated from its beginning
    closed: int = 0  # epochs
    longest: int = 0  # backwards in one of those

    def begins(self, num_backwards: int) -> None:
        """Begin another epoch."""
        num = num_backwards - self.begun_at
        self.closed += num > 0
        self.longest, self.begun_at = max(self.longest, num), num_backwards

    def so_far(self, num_backwards: int) -> tuple[int, int]:
        """Return the epochs, and the backwards in the longest of them."""
        num = num_backwards - self.begun_at
        return self.closed + (num > 0), max(self.longest, num)


@dataclass(slots=True)
class Epochs:
    """The DataLoaders of the program. `num_backwards` is always how many there were so far."""

    _loaders: dict[int, Loader] = field(default_factory=dict[int, Loader])

    def begins(self, loader: Any, num_backwards: int) -> None:
        """Note that a DataLoader is iterated from its beginning."""
        known = self._loaders.get(id(loader))
        if known is not None and known.alive() is loader:
            known.begins(num_backwards)
        elif len(self._loaders) < MAX_LOADERS:
            size = cast("dict[str, object]", vars(loader)).get("batch_size")
            self._loaders[id(loader)] = Loader(
                weakref.ref(loader),
                float(size) if isinstance(size, int) else math.nan,
                num_backwards,
            )

    def so_far(self, num_backwards: int) -> CountedEpochs:
        """Return epochs, backwards in the longest, and batch size of the DataLoader with the most
        backwards: the training's. NaN where there is none.
        """
        counted = [
            (*each.so_far(num_backwards), each.batch_size) for each in self._loaders.values()
        ]
        trained = [each for each in counted if each[0]]
        return max(
            trained, key=lambda each: each[0] * each[1], default=(math.nan, math.nan, math.nan)
        )
