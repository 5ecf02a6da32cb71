"""Pack an answer for the page: a JSON header followed by arrays of numbers, which typed arrays take
without a copy.

Layout: the header's length as little-endian uint32, the header, then each array, beginning at a
multiple of 8 from the start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from seismograd.record import strict_json
from seismograd.schema import AnyArray

_ALIGN = 8
_NAMES = {
    "i1": "Int8",
    "u1": "Uint8",
    "i2": "Int16",
    "u2": "Uint16",
    "i4": "Int32",
    "u4": "Uint32",
    "f4": "Float32",
    "f8": "Float64",
}


def pack(header: Mapping[str, object], arrays: Mapping[str, AnyArray] | None = None) -> bytes:
    """Return the header, with `arrays` in it: for each name the kind of typed array, the shape and
    the offset. NaN in the header is "nan".
    """
    parts: dict[str, bytes] = {}
    described: dict[str, list[object]] = {}
    offset = 0
    for name, array in (arrays or {}).items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        data = little.tobytes()
        described[name] = [_NAMES[little.dtype.str[1:]], list(little.shape), offset]
        parts[name] = data + bytes(-len(data) % _ALIGN)
        offset += len(parts[name])
    text = strict_json.dumps({**header, "arrays": described})
    text += b" " * (-(len(text) + 4) % _ALIGN)
    return len(text).to_bytes(4, "little") + text + b"".join(parts.values())


def unpack(data: bytes) -> tuple[dict[str, object], dict[str, AnyArray]]:
    """Return what `pack` packed."""
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    dtypes = {name: dtype for dtype, name in _NAMES.items()}
    arrays: dict[str, AnyArray] = {}
    for name, (kind, shape, offset) in header.pop("arrays").items():
        start = 4 + length + offset
        arrays[name] = np.frombuffer(data, f"<{dtypes[kind]}", math.prod(shape), start).reshape(
            shape
        )
    return header, arrays
