"""Convert numbers to the dtype they are recorded in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from seismograd.schema.arrays import AnyArray

# by its bits: np.finfo warns where denormals are flushed
_FLOAT32_SMALLEST = np.array(1, "<u4").view("<f4")[()]
# Of what is converted at once, which takes several times as much while it is.
_PIECE_BYTES = 2**18


def recorded(values: AnyArray, dtype: str) -> AnyArray:
    """Return the values in this dtype, preserving their kind: finite stays finite, nonzero stays
    nonzero.

    A finite float that float32 cannot hold becomes its largest or smallest finite nonzero value of
    the same sign. Unsigned integers saturate at both ends; NaN, a count that was not measured,
    becomes 0 there.
    """
    target = np.dtype(dtype)
    if values.dtype == target:
        return values
    if target.kind == "u":
        return _as_unsigned(values, target)
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(target)
    if target.itemsize == 4:
        infinite, zero = np.isinf(narrow), narrow == 0
        if infinite.any():
            too_large = infinite & np.isfinite(values)
            narrow[too_large] = np.copysign(np.finfo(np.float32).max, values[too_large])
        if zero.any():
            too_small = zero & (values != 0)
            narrow[too_small] = np.copysign(_FLOAT32_SMALLEST, values[too_small])
    return narrow


def _as_unsigned(values: AnyArray, target: np.dtype[np.generic]) -> AnyArray:
    if values.dtype.kind != "f":
        return np.clip(values, 0, np.iinfo(target.str).max).astype(target)
    # one copy, in float64: float32 has no 2^32 - 1
    whole = values.astype(np.float64)
    whole[np.isnan(whole)] = 0
    np.rint(whole, out=whole)
    return np.clip(whole, 0, np.iinfo(target.str).max, out=whole).astype(target)


def joined(parts: Sequence[AnyArray], dtype: str) -> AnyArray:
    """Return the rows of all parts in this dtype, as `recorded` gives them, in an array of their
    own. Little more memory than that of the result is needed at any time.
    """
    if sum(part.nbytes for part in parts) <= _PIECE_BYTES:
        return recorded(np.concatenate(parts), dtype)
    first = parts[0]
    whole: AnyArray = np.empty((sum(map(len, parts)), *first.shape[1:]), dtype)
    start = 0
    for piece in _pieces(parts):
        stop = start + sum(map(len, piece))
        whole[start:stop] = recorded(piece[0] if len(piece) == 1 else np.concatenate(piece), dtype)
        start = stop
    return whole


def _pieces(parts: Sequence[AnyArray]) -> Iterator[list[AnyArray]]:
    """Yield the rows in order, as many at once as may be converted together, at least one."""
    piece, num_bytes = list[AnyArray](), 0
    for part in parts:
        rows = max(1, _PIECE_BYTES * len(part) // max(1, part.nbytes))
        for start in range(0, len(part), rows):
            cut = part[start : start + rows]
            if piece and num_bytes + cut.nbytes > _PIECE_BYTES:
                yield piece
                piece, num_bytes = [], 0
            piece.append(cut)
            num_bytes += cut.nbytes
    if piece:
        yield piece
