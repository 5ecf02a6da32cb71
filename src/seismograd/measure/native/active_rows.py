"""Remember which rows had a gradient since the last sample, where the kernel notes it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seismograd.measure.native.library import ROWS_HEADER_BYTES

Memory = npt.NDArray[np.uint8]


class ActiveRows:
    """One block of memory per parameter, as the kernel lays it out (`ActiveRows` of
    kernel/entry.hpp).
    """

    def __init__(self) -> None:
        self._memories: dict[int, Memory] = {}

    def memory(self, key: int, num_rows: int) -> tuple[Memory, bool]:
        """Return the memory of a parameter's rows, and whether it replaces one for another number
        of rows.
        """
        before = self._memories.get(key)
        if before is not None and before.size == ROWS_HEADER_BYTES + num_rows:
            return before, False
        memory = np.zeros(ROWS_HEADER_BYTES + num_rows, np.uint8)
        memory[:ROWS_HEADER_BYTES].view(np.int64)[0] = num_rows  # all dead
        self._memories[key] = memory
        return memory, before is not None

    def forget(self, key: int) -> npt.NDArray[np.bool_] | None:
        """Return which rows of a parameter were alive, and forget them  # (num_rows,), or `None`
        where none are remembered.
        """
        memory = self._memories.pop(key, None)
        return None if memory is None else memory[ROWS_HEADER_BYTES:] != 0
