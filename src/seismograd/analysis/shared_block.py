"""Share a block between rules: what several of them derive from it is computed once, when the first
of them asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Protocol, TypeVar, cast

import numpy as np

from seismograd.analysis.block_rows import BoolArray, by_optimizer, updates
from seismograd.analysis.depth_profile import LayerReader
from seismograd.analysis.held_columns import HeldColumns
from seismograd.analysis.step_group_collector import StepGroupCollector
from seismograd.analysis.windows import WindowReader
from seismograd.exception_origin import raised_by_user
from seismograd.schema import IntArray, RowBatch

Derived = TypeVar("Derived")
DerivedByReader = TypeVar("DerivedByReader", covariant=True)
_FIELDS = tuple(each.name for each in fields(RowBatch))


class BlockReader(Protocol[DerivedByReader]):
    """Reads blocks in order and remembers what spans two of them."""

    def read(self, block: RowBatch, /) -> DerivedByReader:
        """Read the next iterations."""
        ...


@dataclass(frozen=True)
class SharedBlock(RowBatch):
    """A block that the rules share. `held`: which columns an optimizer holds."""

    held: HeldColumns = field(default_factory=HeldColumns)

    @classmethod
    def of(cls, block: RowBatch, held: HeldColumns | None = None) -> SharedBlock:
        """Return a shared block from which nothing has been derived yet; `held` is that of blocks
        with the same parameters.
        """
        return cls(
            **{name: getattr(block, name) for name in _FIELDS},
            held=HeldColumns(block.parameters) if held is None else held,
        )

    @cached_property
    def updates(self) -> BoolArray:
        """Return where a new gradient was used by an update: neither skipped nor used a second time
        # (B,).
        """
        return updates(self)

    @cached_property
    def updated(self) -> list[tuple[int, IntArray]]:
        """Return the rows of `updates` by the optimizer that stepped first in them."""
        return by_optimizer(self, self.updates)

    @cached_property
    def optimizers_of_rows(self) -> tuple[int, ...]:
        """Return the optimizers that stepped first in any row, in ascending order."""
        return tuple(optimizer for optimizer, _ in by_optimizer(self, np.ones(len(self), np.bool_)))

    @property
    def columns_of(self) -> dict[int, IntArray]:
        """Return the columns of each optimizer's parameters, by optimizers in ascending order."""
        return self.held.all

    @cached_property
    def _made(self) -> dict[int, tuple[object, Exception | None]]:
        return {}

    def read_by(self, reader: BlockReader[Derived]) -> Derived:
        """Return what a reader makes of this block: it reads it once, however many rules have the
        reader, and fails all of them alike.
        """
        if id(reader) not in self._made:
            try:
                self._made[id(reader)] = reader.read(self), None
            except Exception as error:
                if raised_by_user(error):
                    raise
                self._made[id(reader)] = None, error
        made, failure = self._made[id(reader)]
        if failure is not None:
            raise failure
        return cast("Derived", made)


@dataclass(frozen=True, slots=True)
class SharedReaders:
    """The readers that rules share."""

    step_groups: StepGroupCollector = field(default_factory=StepGroupCollector)
    windows: WindowReader = field(default_factory=WindowReader)
    layers: LayerReader = field(default_factory=LayerReader)


class ReadsWithOthers(Protocol):
    """A rule that can use shared readers."""

    def read_with(self, readers: SharedReaders) -> None:
        """Use these readers from now on."""
        ...


def share_readers(rules: Iterable[ReadsWithOthers]) -> None:
    """Let rules that have seen nothing yet share their readers."""
    readers = SharedReaders()
    for rule in rules:
        rule.read_with(readers)
