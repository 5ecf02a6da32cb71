"""How tensors are cut into pieces for the kernels, one program each.

Shapes: m tensors, n pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from seismograd.measure.native.library import DTYPE_CODES
from seismograd.schema import IntArray

PIECE = 1 << 15  # scalars
# Words of a piece: which tensor, and where in it (bytes); how many scalars; the row of the first
# one, and where in its run that lies: every `RUN` scalars comes the next row, after the last the
# first. No run is longer than a piece, as far as the piece itself can tell.
TENSOR, OFFSET, COUNT, DTYPE, FLAGS, NUM_ROWS, RUN, PLACE, ROW = range(9)
PIECE_WORDS = 9
# words of a tensor: its pieces, the flags of its rows
FIRST_PIECE, NUM_PIECES, FIRST_FLAG, NUM_FLAGS = range(4)
TENSOR_WORDS = 4


def cut(tensors: Sequence[Tensor], with_rows: bool) -> tuple[IntArray, IntArray]:
    """Return the pieces  # (n, PIECE_WORDS), and the tensors  # (m, TENSOR_WORDS). Without rows
    none are remembered.
    """
    counts = np.asarray([t.numel() for t in tensors], np.int64)
    num_rows = np.asarray(
        [t.shape[0] if with_rows and t.dim() >= 2 and t.numel() > 0 else 0 for t in tensors],
        np.int64,
    )
    num_pieces = -(-counts // PIECE)
    whole = np.zeros((len(tensors), TENSOR_WORDS), np.int64)
    whole[:, FIRST_PIECE] = np.cumsum(num_pieces) - num_pieces
    whole[:, NUM_PIECES] = num_pieces
    whole[:, FIRST_FLAG] = np.cumsum(num_rows) - num_rows
    whole[:, NUM_FLAGS] = num_rows

    owner = np.repeat(np.arange(len(tensors)), num_pieces)
    first = (np.arange(len(owner)) - whole[owner, FIRST_PIECE]) * PIECE  # scalar
    run = np.asarray([_run(t) for t in tensors], np.int64)[owner]
    run_seen = np.minimum(run, PIECE)
    pieces = np.zeros((len(owner), PIECE_WORDS), np.int64)
    pieces[:, TENSOR] = owner
    pieces[:, OFFSET] = first * np.asarray([t.element_size() for t in tensors], np.int64)[owner]
    pieces[:, COUNT] = np.minimum(counts[owner] - first, PIECE)
    pieces[:, DTYPE] = np.asarray([DTYPE_CODES[t.dtype] for t in tensors], np.int64)[owner]
    pieces[:, FLAGS], pieces[:, NUM_ROWS] = whole[owner, FIRST_FLAG], num_rows[owner]
    pieces[:, RUN] = run_seen
    pieces[:, PLACE] = run_seen - np.minimum(run - first % run, run_seen)
    pieces[:, ROW] = first // run % np.maximum(num_rows[owner], 1)
    return pieces, whole


def _run(tensor: Tensor) -> int:
    """Return how many scalars of one row follow each other in memory."""
    return max(1, tensor.stride(0) if tensor.dim() >= 2 and tensor.shape[0] > 1 else tensor.numel())
