"""What a step changed of the weights that the update probe copied before it."""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.schema import FloatArray
from seismograd.tensors.device_scalars import Scalar

UPDATE_RATIO, UNMOVED = 0, 1  # rows of `ProbedUpdates.numbers`


@dataclass(frozen=True, slots=True)
class ProbedUpdates:
    """What a step changed, by column; numbers still on a device are in `waiting`, each with its
    position in `numbers`  # (2, k).
    """

    columns: list[int]
    numbers: FloatArray
    waiting: list[tuple[int, int, Scalar]] = field(default_factory=list[tuple[int, int, Scalar]])

    def settled(self) -> FloatArray:
        """Return the update ratios and the unchanged shares  # (2, k), waiting for the device if
        necessary.
        """
        for which, position, scalar in self.waiting:
            self.numbers[which, position] = scalar.read()
        return self.numbers
