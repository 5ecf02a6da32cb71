"""Read how the gradient changed on its way back through an unrolled recurrence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import integers, numbers
from seismograd.analysis.chance_level import chance_loss
from seismograd.analysis.loss_level import LossLevel
from seismograd.schema import Fact, FactKind, Parameter, RowBatch, StepFlag

ONE_OPERATION = frozenset({"GRU", "LSTM", "RNN"})  # modules whose steps a graph may not show
MAX_KEPT = 16  # measurements of a weight: the first one, and the last ones


@dataclass(slots=True)
class ThroughTime:
    """The measurements of the recurrent weights, and the loss. Of each weight those with a fault
    are kept as long as there is no other.
    """

    loss: LossLevel = field(default_factory=LossLevel)
    num: int = 0  # measurements
    guess: float = math.nan  # the loss of a classifier that only guesses
    module: str = ""  # one whose steps the graph may not show
    _parameters: tuple[Parameter, ...] | None = None
    _in_a_row: dict[str, list[Fact]] = field(default_factory=dict[str, "list[Fact]"])

    def learn(self, fact: Fact, is_at_fault: Callable[[Fact], bool]) -> None:
        """Take a fact, if it is a measurement."""
        if fact.kind == FactKind.THROUGH_TIME:
            self.num += 1
            shown = self._in_a_row.setdefault(fact.parameters[0], [])
            if is_at_fault(fact):
                shown.append(fact)
                del shown[1 : max(len(shown) - MAX_KEPT, 0) + 1]
            else:
                shown.clear()

    def read(self, block: RowBatch) -> None:
        """Read the next iterations."""
        unknown = (integers(block.steps, "flags") & int(StepFlag.NO_LOSS)) != 0
        self.loss.add(np.where(unknown, np.nan, numbers(block.steps, "loss")))
        if block.parameters is not self._parameters:
            self._parameters = block.parameters
            self._take_in(block.parameters)

    def _take_in(self, parameters: tuple[Parameter, ...]) -> None:
        self.guess = chance_loss(parameters)
        if not self.module:
            modules = (each.module for each in parameters)
            found = next((each for each in modules if each in ONE_OPERATION), "")
            self.module = f"nn.{found}" if found else ""

    def at_fault(self, min_looks: int, min_steps: int, share: float) -> Iterator[list[Fact]]:
        """Yield at the end of a run the last measurements of each weight that are at fault, if
        there are enough of them and the loss is still this share of the first, or of that of a
        guess.
        """
        stays = self.loss.stays(share) or self.loss.fell_to(self.guess, share)
        if self.loss.num >= min_steps and stays:
            yield from (shown for shown in self._in_a_row.values() if len(shown) >= min_looks)
