"""The kernel: a table of pieces of tensors in, numbers of each piece out. Imports Triton, so import
it only where that is installed.

With `TRITON_INTERPRET=1` in the environment it runs on the CPU, which is how it is tested without a
GPU.
"""

# Triton reads the source of what it compiles: only its own annotations, and no types.
# ruff: noqa: N803
# pyright: basic, reportMissingImports=false, reportUnknownMemberType=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

# A piece in the table: pointer, count, dtype, alive rows, number of rows, run, position of its
# first scalar in the tensor, 0. Its 9 numbers: sum, large sum, small squares, squares, large
# squares, largest, zeros, non-finite, NaN. "Small" and "large" scalars would underflow or overflow
# in float64, and are summed scaled. Of the 128 counts 64 are of exponents, and the next one counts
# scalars without one.


@triton.jit
def _measure(
    at_numbers,
    count,
    at_alive,
    num_rows,
    run,
    first,
    out,
    counts,
    IS_DOUBLE: tl.constexpr,
    IS_BRAIN: tl.constexpr,
    COUNTING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    added = tl.zeros((BLOCK,), tl.float64)
    added_large = tl.zeros((BLOCK,), tl.float64)
    small = tl.zeros((BLOCK,), tl.float64)
    squares = tl.zeros((BLOCK,), tl.float64)
    large = tl.zeros((BLOCK,), tl.float64)
    largest = tl.zeros((BLOCK,), tl.float64)
    zeros = tl.zeros((BLOCK,), tl.int32)
    infinite = tl.zeros((BLOCK,), tl.int32)
    nans = tl.zeros((BLOCK,), tl.int32)
    bins = tl.zeros((128,), tl.int32)
    for start in range(0, count, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = position < count
        if IS_BRAIN:  # from its bits, which keeps denormals wherever it runs
            bits = tl.load(at_numbers + position, mask=inside, other=0).to(tl.int32) << 16
            x = bits.to(tl.float32, bitcast=True).to(tl.float64)
        else:
            x = tl.load(at_numbers + position, mask=inside, other=0.0).to(tl.float64)
        size = tl.abs(x)
        is_nan = x != x
        is_infinite = size == float("inf")
        if IS_DOUBLE:
            is_large = size > 3.1217485503159922e144  # LARGE
            is_small = size < 3.2033340118114565e-145  # SMALL
            scaled_down = tl.where(is_large, x * 2.409919865102884e-181, 0.0)  # DOWN
            scaled_up = tl.where(is_small, x * 4.149515568880993e180, 0.0)  # UP
            large += scaled_down * scaled_down
            small += scaled_up * scaled_up
            squares += tl.where(is_large | is_small, 0.0, x * x)
            added_large += scaled_down
            added += tl.where(is_large, 0.0, x)
        else:
            squares += x * x
            added += x
        largest = tl.maximum(largest, tl.where(is_nan, 0.0, size))
        zeros += (inside & (x == 0)).to(tl.int32)
        infinite += is_infinite.to(tl.int32)
        nans += is_nan.to(tl.int32)
        if num_rows > 0:
            row = ((first + position) // run) % num_rows
            before = tl.load(at_alive + row, mask=inside, other=1)
            tl.store(
                at_alive + row,
                tl.full((BLOCK,), 1, tl.uint8),
                mask=inside & (x != 0) & (before == 0),
            )
        if COUNTING:
            exponent = ((size.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)
            chosen = tl.minimum(tl.maximum((exponent + 96) >> 1, 0), 63)
            has_none = (x == 0) | is_nan | is_infinite
            bins += tl.histogram(tl.where(has_none, 64, chosen), 128)
    tl.store(out + 0, tl.sum(added))
    tl.store(out + 1, tl.sum(added_large))
    tl.store(out + 2, tl.sum(small))
    tl.store(out + 3, tl.sum(squares))
    tl.store(out + 4, tl.sum(large))
    tl.store(out + 5, tl.max(largest))
    tl.store(out + 6, tl.sum(zeros).to(tl.float64))
    tl.store(out + 7, (tl.sum(infinite) + tl.sum(nans)).to(tl.float64))
    tl.store(out + 8, tl.sum(nans).to(tl.float64))
    if COUNTING:
        tl.store(counts + tl.arange(0, 128), bins)


@triton.jit
def measure_pieces(table, numbers, counts, COUNTING: tl.constexpr, BLOCK: tl.constexpr):
    """Measure one row of the table per program  # (n, WORDS) -> (n, NUMBERS) and, if counting, (n,
    BINS).
    """
    piece = tl.program_id(0).to(tl.int64)
    words = table + piece * 8
    pointer = tl.load(words)
    count = tl.load(words + 1)
    dtype = tl.load(words + 2)
    at_alive = tl.load(words + 3).to(tl.pointer_type(tl.uint8))
    num_rows = tl.load(words + 4)
    run = tl.load(words + 5)
    first = tl.load(words + 6)
    out = numbers + piece * 9
    into = counts + piece * 128
    if dtype == 0:
        _measure(
            pointer.to(tl.pointer_type(tl.float32)),
            count,
            at_alive,
            num_rows,
            run,
            first,
            out,
            into,
            False,
            False,
            COUNTING,
            BLOCK,
        )
    if dtype == 1:
        _measure(
            pointer.to(tl.pointer_type(tl.int16)),
            count,
            at_alive,
            num_rows,
            run,
            first,
            out,
            into,
            False,
            True,
            COUNTING,
            BLOCK,
        )
    if dtype == 2:
        _measure(
            pointer.to(tl.pointer_type(tl.float16)),
            count,
            at_alive,
            num_rows,
            run,
            first,
            out,
            into,
            False,
            False,
            COUNTING,
            BLOCK,
        )
    if dtype == 3:
        _measure(
            pointer.to(tl.pointer_type(tl.float64)),
            count,
            at_alive,
            num_rows,
            run,
            first,
            out,
            into,
            True,
            False,
            COUNTING,
            BLOCK,
        )
