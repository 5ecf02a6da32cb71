"""The table that the kernel reads from: worked out once, and anew only when something other than the pointers has changed.

Shapes: n tensors, m of them for the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from seismograd.measure.native.layout import Layout, has_memory, layout_check, layout_of
from seismograd.measure.native.library import ENTRY_WORDS, POINTER
from seismograd.measure.native.rows import Memory
from seismograd.schema import IntArray

# A tensor whose memory was freed points at its own offset, which is the address of nothing; what lies so low is looked at again.
LOWEST_ADDRESS = 1 << 36


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernel has to know of n tensors besides their pointers  # (m, ENTRY_WORDS).

    `places` are those of the m among the n, `others` those of the rest. `memories` are what the entries point into.
    """

    entries: IntArray
    places: list[int]
    others: list[int]
    is_still_so: Callable[..., bool]
    memories: tuple[Memory, ...]

    def mine(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The tensors that the table is of  # n -> m."""
        return [tensors[place] for place in self.places] if self.others else tensors

    def fill(self, tensors: Sequence[Tensor]) -> IntArray | None:
        """The entries with the pointers of the tensors  # n -> (m, ENTRY_WORDS), or `None` if they lie otherwise than the table says."""
        mine = self.mine(tensors)
        if not self.is_still_so(*mine):
            return None
        entries = self.entries.copy()
        pointers = entries[:, POINTER] = np.fromiter(map(Tensor.data_ptr, mine), np.int64, len(mine))
        if len(mine) > 0 and np.minimum.reduce(pointers) < LOWEST_ADDRESS:
            for i in np.flatnonzero(pointers < LOWEST_ADDRESS).tolist():
                if mine[i].numel() > 0 and not has_memory(mine[i]):
                    return None
        return entries


def make_table(
    tensors: Sequence[Tensor], excluded: Container[int] = (), memory_of: Callable[[int, Layout], Memory] | None = None
) -> tuple[Table, IntArray]:
    """The table of tensors as they lie now, but for those at `excluded` places, and its entries with their pointers.

    `memory_of(place, layout)` is the memory for the rows of one.
    """
    places: list[int] = []
    others: list[int] = []
    entries: list[tuple[int, ...]] = []
    memories: list[Memory] = []
    for place, tensor in enumerate(tensors):
        layout = None if place in excluded else layout_of(tensor)
        if layout is None:
            others.append(place)
            continue
        address = 0
        if memory_of is not None and layout.num_rows > 0:
            memories.append(memory_of(place, layout))
            address = memories[-1].ctypes.data
        places.append(place)
        entries.append((tensor.data_ptr(), layout.count, address, layout.num_rows, layout.run, layout.dtype, 0))
    filled = np.array(entries, np.int64).reshape(-1, ENTRY_WORDS)
    check = layout_check([tensors[place] for place in places])
    return Table(filled.copy(), places, others, check, tuple(memories)), filled


def refill(table: Table | None, tensors: Sequence[Tensor]) -> tuple[Table, IntArray]:
    """The table if it is still true of the tensors, else a new one, and its entries with their pointers."""
    entries = None if table is None else table.fill(tensors)
    return make_table(tensors) if table is None or entries is None else (table, entries)
