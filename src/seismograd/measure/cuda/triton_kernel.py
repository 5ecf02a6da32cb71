"""The kernels: pieces of tensors in, numbers of each tensor out. Imports Triton, so import it only
where that is installed.

With `TRITON_INTERPRET=1` in the environment they run on the CPU, which is how they are tested
without a GPU.
"""

# Triton reads the source of what it compiles: only its own annotations, and no types.
# ruff: noqa: N803, N806
# pyright: basic, reportMissingImports=false, reportUnknownMemberType=false, reportArgumentType=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

# The words of a piece and of a tensor are those of `pieces`. The 9 numbers of either: sum, large
# sum, small squares, squares, large squares, largest, zeros, non-finite, NaN. "Small" and "large"
# scalars would underflow or overflow in float64, and are summed scaled. The 64 counts are of
# exponents; scalars without one are counted nowhere.


@triton.jit
def _any_not_alive(at_flags, num_rows, first_row, num_seen, BLOCK: tl.constexpr):
    """Return whether any of the rows of a piece is not known to be alive yet: 0 or 1."""
    least = tl.full((BLOCK,), 1, tl.uint8)
    for start in range(0, num_seen, BLOCK):
        number = start + tl.arange(0, BLOCK)
        row = first_row + number
        row = tl.where(row >= num_rows, row - num_rows, row)
        least = tl.minimum(least, tl.load(at_flags + row, mask=number < num_seen, other=1))
    return tl.min(least.to(tl.int32)) == 0


@triton.jit
def _sum_of_lane(x, LANES: tl.constexpr):
    """Return sums of scalars that one thread has read, so that it needs registers for one sum."""
    return tl.sum(tl.reshape(x, (LANES, x.shape[0] // LANES)), axis=1)


@triton.jit
def _scalars(base, start, before, end, BLOCK: tl.constexpr):
    """Return the scalars of a block, with 0 for those that are not of the piece."""
    position = start + tl.arange(0, BLOCK)
    if (start >= before) & (start + BLOCK <= end):
        raw = tl.load(base + position)
    else:
        raw = tl.load(base + position, mask=(position >= before) & (position < end), other=0)
    return raw


@triton.jit
def _measure(
    address,
    count,
    at_flags,
    num_rows,
    run,
    place,
    first_row,
    out,
    counts,
    ELEMENT: tl.constexpr,
    SIZE: tl.constexpr,
    IS_DOUBLE: tl.constexpr,
    IS_BRAIN: tl.constexpr,
    COUNTING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    LANES: tl.constexpr = BLOCK // 4
    added = tl.zeros((LANES,), tl.float64)
    squares = tl.zeros((LANES,), tl.float64)
    if IS_DOUBLE:
        added_large = tl.zeros((LANES,), tl.float64)
        small = tl.zeros((LANES,), tl.float64)
        large = tl.zeros((LANES,), tl.float64)
        largest = tl.zeros((LANES,), tl.float64)
    else:
        largest = tl.zeros((LANES,), tl.float32)
    zeros = tl.zeros((LANES,), tl.int32)
    infinite = tl.zeros((LANES,), tl.int32)
    nans = tl.zeros((LANES,), tl.int32)
    bins = tl.zeros((128,), tl.int32)
    # Reading begins where 16 bytes do, so that several scalars are read at once.
    before = ((address & 15) // SIZE).to(tl.int32)  # scalars that are not the tensor's
    base = tl.multiple_of((address - (address & 15)).to(tl.pointer_type(ELEMENT)), 16)
    end = before + count
    # Numbers below 2^17 and their quotients are exact enough in float32 for division by a product.
    per_run = 1.0 / run.to(tl.float32)
    per_round = 1.0 / tl.maximum(num_rows, 1).to(tl.float32)
    sees_new_rows = False
    if num_rows > 0:
        num_seen = tl.minimum((place + count - 1) // run + 1, num_rows)
        sees_new_rows = _any_not_alive(at_flags, num_rows, first_row, num_seen, BLOCK)
    # two blocks are on their way while one is measured
    coming = _scalars(base, 0, before, end, BLOCK)
    then = _scalars(base, BLOCK, before, end, BLOCK)
    for start in range(0, end, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = (position >= before) & (position < end)
        raw, coming = coming, then
        then = _scalars(base, start + 2 * BLOCK, before, end, BLOCK)
        if IS_DOUBLE:
            x = raw
        elif IS_BRAIN:  # from its bits, which keeps denormals wherever it runs
            x = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
        else:
            x = raw.to(tl.float32)
        size = tl.abs(x)
        is_nan = x != x
        is_infinite = size == float("inf")
        if IS_DOUBLE:
            is_large = size > 3.1217485503159922e144  # LARGE
            is_small = size < 3.2033340118114565e-145  # SMALL
            scaled_down = tl.where(is_large, x * 2.409919865102884e-181, 0.0)  # DOWN
            scaled_up = tl.where(is_small, x * 4.149515568880993e180, 0.0)  # UP
            large += _sum_of_lane(scaled_down * scaled_down, LANES)
            small += _sum_of_lane(scaled_up * scaled_up, LANES)
            squares += _sum_of_lane(tl.where(is_large | is_small, 0.0, x * x), LANES)
            added_large += _sum_of_lane(scaled_down, LANES)
            added += _sum_of_lane(tl.where(is_large, 0.0, x), LANES)
        else:
            wide = x.to(tl.float64)
            squares += _sum_of_lane(wide * wide, LANES)
            added += _sum_of_lane(wide, LANES)
        of_lane = tl.reshape(tl.where(is_nan, 0.0, size), (LANES, BLOCK // LANES))
        largest = tl.maximum(largest, tl.max(of_lane, axis=1))
        zeros += _sum_of_lane((inside & (x == 0)).to(tl.int32), LANES)
        infinite += _sum_of_lane(is_infinite.to(tl.int32), LANES)
        nans += _sum_of_lane(is_nan.to(tl.int32), LANES)
        if sees_new_rows:
            at = place + (position - before)
            number = ((at.to(tl.float32) + 0.5) * per_run).to(tl.int32)
            row = first_row + number
            row -= ((row.to(tl.float32) + 0.5) * per_round).to(tl.int32) * num_rows
            row = tl.where(row < 0, row + num_rows, row)
            row = tl.where(row >= num_rows, row - num_rows, row)
            is_new = tl.load(at_flags + row, mask=x != 0, other=1) == 0
            tl.store(at_flags + row, tl.full((BLOCK,), 1, tl.uint8), mask=is_new)
        if COUNTING:
            if IS_DOUBLE:
                exponent = ((size.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)
            else:
                exponent = (size.to(tl.int32, bitcast=True) >> 23) - 127
            chosen = tl.minimum(tl.maximum((exponent + 96) >> 1, 0), 63)
            has_none = (x == 0) | is_nan | is_infinite
            bins += tl.histogram(tl.where(has_none, 64, chosen), 128)
    tl.store(out + 0, tl.sum(added))
    tl.store(out + 3, tl.sum(squares))
    if IS_DOUBLE:  # else these are the zeros that they were made as
        tl.store(out + 1, tl.sum(added_large))
        tl.store(out + 2, tl.sum(small))
        tl.store(out + 4, tl.sum(large))
        tl.store(out + 5, tl.max(largest))
    else:
        tl.store(out + 5, tl.max(largest).to(tl.float64))
    tl.store(out + 6, tl.sum(zeros).to(tl.float64))
    tl.store(out + 7, (tl.sum(infinite) + tl.sum(nans)).to(tl.float64))
    tl.store(out + 8, tl.sum(nans).to(tl.float64))
    if COUNTING:
        number = tl.arange(0, 128)
        tl.store(counts + number, bins, mask=number < 64)


@triton.jit
def measure_pieces(
    pieces,
    pointers,
    flags,
    numbers,
    counts,
    DOUBLES: tl.constexpr,
    COUNTING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Measure one piece per program  # (n, PIECE_WORDS) -> (n, 9) and, if counting, (n, 64); mark
    rows that are alive. `DOUBLES`: some are float64, which needs many more registers.
    """
    piece = tl.program_id(0).to(tl.int64)
    words = pieces + piece * 9
    address = tl.load(pointers + tl.load(words)) + tl.load(words + 1)
    count = tl.load(words + 2).to(tl.int32)
    dtype = tl.load(words + 3)
    at_flags = flags + tl.load(words + 4)
    num_rows = tl.load(words + 5).to(tl.int32)
    run = tl.load(words + 6).to(tl.int32)
    place = tl.load(words + 7).to(tl.int32)
    first_row = tl.load(words + 8).to(tl.int32)
    out = numbers + piece * 9
    into = counts + piece * 64
    if dtype == 0:
        _measure(
            address, count, at_flags, num_rows, run, place, first_row, out, into,
            tl.float32, 4, False, False, COUNTING, BLOCK,
        )  # fmt: skip
    if dtype == 1:
        _measure(
            address, count, at_flags, num_rows, run, place, first_row, out, into,
            tl.int16, 2, False, True, COUNTING, BLOCK,
        )  # fmt: skip
    if dtype == 2:
        _measure(
            address, count, at_flags, num_rows, run, place, first_row, out, into,
            tl.float16, 2, False, False, COUNTING, BLOCK,
        )  # fmt: skip
    if DOUBLES and dtype == 3:
        _measure(
            address, count, at_flags, num_rows, run, place, first_row, out, into,
            tl.float64, 8, True, False, COUNTING, BLOCK,
        )  # fmt: skip


@triton.jit
def merge_pieces(
    tensors,
    numbers,
    counts,
    flags,
    into,
    dead_rows,
    exponents,
    SAMPLED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Merge the pieces of one tensor per program, always in the same order  # (m, TENSOR_WORDS) ->
    (m, 9) and, if sampled, (m,) and (m, 64), as float64; then no row is known to be alive.
    """
    tensor = tl.program_id(0).to(tl.int64)
    words = tensors + tensor * 4
    first = tl.load(words)
    num = tl.load(words + 1)
    columns = tl.arange(0, 16)
    total = tl.zeros((64, 16), tl.float64)
    largest = tl.zeros((64, 16), tl.float64)
    for start in range(0, num, 64):
        piece = start + tl.arange(0, 64)
        part = tl.load(
            numbers + (first + piece)[:, None] * 9 + columns[None, :],
            mask=(piece < num)[:, None] & (columns < 9)[None, :],
            other=0.0,
        )
        total += part
        largest = tl.maximum(largest, part)
    merged = tl.where(columns == 5, tl.max(largest, 0), tl.sum(total, 0))
    tl.store(into + tensor * 9 + columns, merged, mask=columns < 9)
    if SAMPLED:
        bins = tl.arange(0, 64)
        counted = tl.zeros((32, 64), tl.int64)
        for start in range(0, num, 32):
            piece = start + tl.arange(0, 32)
            counted += tl.load(
                counts + (first + piece)[:, None] * 64 + bins[None, :],
                mask=(piece < num)[:, None],
                other=0,
            ).to(tl.int64)
        tl.store(exponents + tensor * 64 + bins, tl.sum(counted, 0).to(tl.float64))
        at_flags = flags + tl.load(words + 2)
        num_rows = tl.load(words + 3)
        dead = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, num_rows, BLOCK):
            row = start + tl.arange(0, BLOCK)
            is_row = row < num_rows
            dead += (tl.load(at_flags + row, mask=is_row, other=1) == 0).to(tl.int32)
            tl.store(at_flags + row, tl.full((BLOCK,), 0, tl.uint8), mask=is_row)
        tl.store(dead_rows + tensor, tl.sum(dead).to(tl.float64))
