"""A block as all rules read it: what several of them make of it is made once, when the first of them asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Protocol, TypeVar, cast

import numpy as np

from seismograd.rules.profile import LayerReader
from seismograd.rules.rows import BoolArray, by_optimizer, updates
from seismograd.rules.tens import Tens
from seismograd.rules.windows import Windows
from seismograd.schema import Block, IntArray

Made = TypeVar("Made")
MadeByReader = TypeVar("MadeByReader", covariant=True)
_FIELDS = tuple(each.name for each in fields(Block))


class Reader(Protocol[MadeByReader]):
    """Reads blocks in order and remembers what spans two of them."""

    def read(self, block: Block, /) -> MadeByReader:
        """Take in the next iterations."""
        ...


class SharedBlock(Block):
    """A block that the rules share."""

    @classmethod
    def of(cls, block: Block) -> SharedBlock:
        """The same block, with nothing made of it yet."""
        return cls(**{name: getattr(block, name) for name in _FIELDS})

    @cached_property
    def updates(self) -> BoolArray:
        """Where a new gradient went into an update: neither skipped nor used a second time  # (B,)."""
        return updates(self)

    @cached_property
    def updated(self) -> list[tuple[int, IntArray]]:
        """The rows of `updates` by the optimizer that stepped first in them."""
        return by_optimizer(self, self.updates)

    @cached_property
    def optimizers_of_rows(self) -> tuple[int, ...]:
        """The optimizers that stepped first in any row, in ascending order."""
        return tuple(optimizer for optimizer, _ in by_optimizer(self, np.ones(len(self), np.bool_)))

    @cached_property
    def _made(self) -> dict[int, tuple[object, Exception | None]]:
        return {}

    def read_by(self, reader: Reader[Made]) -> Made:
        """What a reader makes of this block: it reads it once, however many rules have the reader, and fails all of them alike."""
        if id(reader) not in self._made:
            try:
                self._made[id(reader)] = reader.read(self), None
            except Exception as error:
                self._made[id(reader)] = None, error
        made, failure = self._made[id(reader)]
        if failure is not None:
            raise failure
        return cast("Made", made)


@dataclass(frozen=True, slots=True)
class Readers:
    """What rules read blocks with together."""

    tens: Tens = field(default_factory=Tens)
    windows: Windows = field(default_factory=Windows)
    layers: LayerReader = field(default_factory=LayerReader)


class Sharing(Protocol):
    """A rule that can read with others."""

    def read_with(self, readers: Readers) -> None:
        """Read with these from now on."""
        ...


def read_together(rules: Iterable[Sharing]) -> None:
    """Let rules that have seen nothing yet read blocks together."""
    readers = Readers()
    for rule in rules:
        rule.read_with(readers)
