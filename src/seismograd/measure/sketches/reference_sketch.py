"""The definition of a sketch, with torch's operations: what the kernel has to equal.

Number i of a tensor, flattened row by row, belongs to block b = i // 64. With H[j, r] = -1 where
j & r has an odd number of bits, else 1, its sign in sum j is

    (-1)^(bit i % 64 of mixed(2 b)) · H[j, i % 64] · (-1)^(bit j of mixed(2 b + 1)).

Within a block the 64 rows of signs are orthogonal, so a tensor of up to 64 numbers loses nothing;
between blocks the signs are independent. (Charikar, Chen and Farach-Colton, Finding Frequent Items
in Data Streams, 2002; Ailon and Chazelle, The Fast Johnson-Lindenstrauss Transform, 2009.)

Shapes: W = 64 sums, n blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor

from seismograd.measure.sketches.position_runs import PositionRuns
from seismograd.measure.transfer import wide_dtype
from seismograd.schema import SKETCH_WIDTH, IntArray

CHUNK_BLOCKS = 1 << 12  # of which all that is computed stays in a cache
CHUNK_BLOCKS_ON_DEVICE = 1 << 16

Chunk = tuple[Tensor, Tensor]  # blocks of numbers  # (n, W), and their numbers  # (n,)


def sketch_of(numbers: Tensor, runs: PositionRuns) -> Tensor:
    """Return the sketch of real numbers that stand at these positions, on their device  # (W,)."""
    return _total(_chunks(numbers.reshape(-1), runs), numbers.device)


def sketch_at(numbers: Tensor, positions: Tensor) -> Tensor:
    """Return the sketch of real numbers at any positions of a tensor, as of a sparse one  # (m,),
    (m,) -> (W,).
    """
    unique = cast("Callable[..., tuple[Tensor, Tensor]]", torch.unique)
    ids, at = unique(positions // SKETCH_WIDTH, return_inverse=True)
    blocks = torch.zeros(
        (len(ids), SKETCH_WIDTH), dtype=_computed_in(numbers), device=numbers.device
    )
    blocks.view(-1).index_add_(
        0, at * SKETCH_WIDTH + positions % SKETCH_WIDTH, numbers.to(blocks.dtype)
    )
    return _total(
        (
            (blocks[first : first + CHUNK_BLOCKS], ids[first : first + CHUNK_BLOCKS])
            for first in range(0, len(ids), CHUNK_BLOCKS)
        ),
        numbers.device,
    )


def _total(chunks: Iterable[Chunk], device: torch.device) -> Tensor:
    total = torch.zeros(SKETCH_WIDTH, dtype=wide_dtype(device), device=device)
    for blocks, ids in chunks:
        columns = blocks.to(_computed_in(blocks)).t().contiguous()  # (W, n)
        columns = columns * _signs(2 * ids, columns.dtype)
        for _ in range(SKETCH_WIDTH.bit_length() - 1):
            even, odd = columns[0::2], columns[1::2]
            columns = torch.cat([even + odd, even - odd])
        signed = columns * _signs(2 * ids + 1, columns.dtype)
        total += signed.sum(1, dtype=total.dtype)
    return total


def _computed_in(numbers: Tensor) -> torch.dtype:
    return torch.float64 if numbers.dtype is torch.float64 else torch.float32


def _chunks(numbers: Tensor, runs: PositionRuns) -> Iterator[Chunk]:
    """Yield the numbers in whole blocks, with zeros where a run begins or ends within one."""
    most = CHUNK_BLOCKS if numbers.device.type == "cpu" else CHUNK_BLOCKS_ON_DEVICE
    together = max(1, most * SKETCH_WIDTH // max(1, runs.length + SKETCH_WIDTH))
    for first in range(0, len(runs.starts), together):
        starts = runs.starts[first : first + together]
        rows = numbers[first * runs.length :][: len(starts) * runs.length]
        rows = rows.view(len(starts), runs.length)
        for begin in range(0, runs.length, most * SKETCH_WIDTH):
            yield _in_blocks(rows[:, begin : begin + most * SKETCH_WIDTH], starts + begin)


def _in_blocks(rows: Tensor, starts: IntArray) -> Chunk:
    length = rows.shape[1]
    within = starts % SKETCH_WIDTH  # (k,)
    ids = torch.from_numpy(starts // SKETCH_WIDTH).to(rows.device)
    num = -(-(length + int(within.max())) // SKETCH_WIDTH)  # blocks to a run
    if num * SKETCH_WIDTH != length:
        padded = torch.zeros(
            (len(starts), num * SKETCH_WIDTH), dtype=rows.dtype, device=rows.device
        )
        at = torch.from_numpy(within).to(rows.device)[:, None] + torch.arange(
            length, dtype=torch.int64, device=rows.device
        )
        rows = padded.scatter_(1, at, rows)
    ids = ids[:, None] + torch.arange(num, dtype=torch.int64, device=rows.device)
    return rows.reshape(-1, SKETCH_WIDTH), ids.reshape(-1)


def _signs(seeds: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 64 signs for each of the seeds  # (n,) -> (W, n)."""
    bits = torch.arange(SKETCH_WIDTH, dtype=torch.int64, device=seeds.device)
    return 1 - 2 * ((_mixed(seeds) >> bits[:, None]) & 1).to(dtype)


def _mixed(x: Tensor) -> Tensor:
    """Return 64 random bits for each number: the finalizer of SplitMix64 (Steele, Lea and Flood,
    Fast Splittable Pseudorandom Number Generators, 2014).
    """
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _signed(number: int) -> int:
    return number - (1 << 64)


def _shifted(x: Tensor, places: int) -> Tensor:
    """Shift right, with zeros from the left: torch's own shift repeats the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)
