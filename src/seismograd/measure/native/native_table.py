"""The table that the kernel reads: computed once, and again only when something other than the
pointers has changed.

Shapes: n tensors, m of them for the kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, UntypedStorage

from seismograd.measure.native import tensor_reads
from seismograd.measure.native.active_rows import Memory
from seismograd.measure.native.library import ENTRY_WORDS, POINTER, address_of
from seismograd.measure.native.memory_layout import MemoryLayout, layout_check, layout_of
from seismograd.schema import IntArray
from seismograd.tensors.freed_memory import are_dense_readable

FEW = 16  # pointers, which are written in less time than NumPy takes to begin
BYTES_OF_STORAGE = UntypedStorage.nbytes
NOT_KNOWN: list[int] = [-1]  # never what a tensor has; shared, never written to


@dataclass(slots=True)
class NativeTable:
    """What the kernel needs to know of n tensors besides their pointers  # (m, ENTRY_WORDS).

    `positions` are those of the m among the n, `others` those of the rest. `memories` keeps alive
    what the entries point into. `address` is that of the entries, as an argument.
    """

    entries: IntArray  # refilled by each `fill`
    address: Any
    positions: list[int]
    others: list[int]
    is_still_so: Callable[..., bool]
    memories: tuple[Memory, ...]
    # as they were when all were last found readable, and what the entries hold
    _offsets: Sequence[object] = ()
    _storages: list[int] = field(default_factory=list[int])
    pointers: list[int] = field(default_factory=list[int])
    # for `tensor_reads.fill`: the offsets and storages once more, where they are, and the entries
    known: IntArray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    known_at: int = 0
    entries_at: int = 0
    _words: ctypes.Array[ctypes.c_int64] | None = None  # of the entries, where they are few

    def __post_init__(self) -> None:
        entries: Any = self.entries
        self.known = np.full((len(self.positions), 2), -1, np.int64)
        self.known_at, self.entries_at = self.known.ctypes.data, self.entries.ctypes.data
        if 0 < len(entries) <= FEW:
            self._words = (ctypes.c_int64 * entries.size).from_buffer(entries)

    def mine(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the tensors that the table covers  # n -> m."""
        return [tensors[position] for position in self.positions] if self.others else tensors

    def fill(self, tensors: Sequence[Tensor]) -> bool:
        """Put the pointers of the tensors into the entries; return `False` if their layout has
        changed.
        """
        mine = self.mine(tensors) if self.others else tensors
        if isinstance(mine, list) and len(mine) == len(self.known):
            self.pointers = NOT_KNOWN  # in case an exception arrives behind it
            if tensor_reads.fill(
                self.is_still_so, mine, self.known_at, self.entries_at, ENTRY_WORDS
            ):
                return True
        if not self.is_still_so(*mine):
            return False
        # Lists are made and compared in C. What lies as before in as much memory can be read as
        # before, and mostly it is the very same memory.
        offsets = list(map(Tensor.storage_offset, mine))
        storages = list(map(BYTES_OF_STORAGE, map(Tensor.untyped_storage, mine)))
        if storages != self._storages or offsets != self._offsets:
            if not are_dense_readable(mine):
                return False
            self._storages = NOT_KNOWN  # in case an exception arrives in between
            self._offsets = offsets
            self._storages = storages
            self.known[:, 0], self.known[:, 1] = offsets, storages
        pointers = list(map(Tensor.data_ptr, mine))
        if pointers != self.pointers:
            self.pointers = NOT_KNOWN  # likewise
            words = self._words
            if words is None:
                self.entries[:, POINTER] = pointers
            else:
                word = POINTER
                for pointer in pointers:
                    words[word] = pointer
                    word += ENTRY_WORDS
            self.pointers = pointers
        return True


def make_table(
    tensors: Sequence[Tensor],
    excluded: Container[int] = (),
    memory_of: Callable[[int, MemoryLayout], Memory] | None = None,
) -> NativeTable:
    """Return the table of tensors in their current layout, except those at `excluded` positions,
    with their pointers.

    `memory_of(position, layout)` returns the memory for the rows of one.
    """
    positions: list[int] = []
    others: list[int] = []
    entries: list[tuple[int, ...]] = []
    memories: list[Memory] = []
    for position, tensor in enumerate(tensors):
        layout = None if position in excluded else layout_of(tensor)
        if layout is None:
            others.append(position)
            continue
        address = 0
        if memory_of is not None and layout.num_rows > 0:
            memories.append(memory_of(position, layout))
            address = memories[-1].ctypes.data
        positions.append(position)
        entries.append(
            (tensor.data_ptr(), layout.count, address, layout.num_rows, layout.run, layout.dtype, 0)
        )
    filled = np.array(entries, np.int64).reshape(-1, ENTRY_WORDS)
    check = layout_check([tensors[position] for position in positions])
    return NativeTable(filled, address_of(filled), positions, others, check, tuple(memories))


def refill(table: NativeTable | None, tensors: Sequence[Tensor]) -> NativeTable:
    """Return the table, or a new one if it no longer matches the tensors, with their pointers."""
    return table if table is not None and table.fill(tensors) else make_table(tensors)
