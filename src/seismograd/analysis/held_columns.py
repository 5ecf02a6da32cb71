"""Find the columns of what each optimizer holds, once for all blocks with the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seismograd.analysis.parameter_index import is_weight
from seismograd.schema import IntArray, Parameter


@dataclass(frozen=True, eq=False)
class HeldColumns:
    """The columns of each optimizer's parameters, by optimizers in ascending order."""

    parameters: tuple[Parameter, ...] = ()

    @cached_property
    def all(self) -> dict[int, IntArray]:
        """Return those of all parameters that it holds."""
        owned: dict[int, list[int]] = {}
        for column, each in enumerate(self.parameters):
            if each.optimizer is not None:
                owned.setdefault(each.optimizer, []).append(column)
        return {each: np.array(owned[each], np.int64) for each in sorted(owned)}

    @cached_property
    def weights(self) -> dict[int, IntArray]:
        """Return those of its weights (`is_weight`)."""
        return self._where(is_weight)

    @cached_property
    def in_float16(self) -> dict[int, IntArray]:
        """Return those of what is kept in float16."""
        return self._where(lambda each: each.dtype == "float16")

    def _where(self, wanted: Callable[[Parameter], bool]) -> dict[int, IntArray]:
        is_wanted = np.array([wanted(each) for each in self.parameters], np.bool_)
        return {optimizer: columns[is_wanted[columns]] for optimizer, columns in self.all.items()}
