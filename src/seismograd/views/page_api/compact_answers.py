"""Answers for where nobody can ask again, as a report and a widget hold them: many in one, with
fewer bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seismograd.schema import AnyArray, recorded
from seismograd.views.page_api.packing import pack, unpack


def together(answers: Mapping[str, bytes], rows: Mapping[str, object]) -> bytes:
    """Return answers by name as one, as the page's `ReportSource` reads it; `rows` says of which
    rows there are some.
    """
    positions: dict[str, list[int]] = {}
    offset = 0
    for name, answer in answers.items():
        positions[name] = [offset, len(answer)]
        offset += len(answer)
    whole = np.frombuffer(b"".join(answers.values()), np.uint8)
    return pack({"answers": positions, **rows}, {"bytes": whole})


def narrow(answer: bytes) -> bytes:
    """Return the answer with its numbers in single precision; finite ones stay finite."""
    header, arrays = unpack(answer)
    return pack(header, {name: _single(array) for name, array in arrays.items()})


def planes(answer: bytes) -> bytes:
    """Return a heat map with the low bytes of its codes before the high ones, which compresses a
    quarter better.
    """
    header, arrays = unpack(answer)
    codes = arrays.pop("codes")
    num_rows, num_columns = codes.shape
    both = codes.view(np.uint8).reshape(num_rows, num_columns, 2)
    return pack(header, {**arrays, "low_bytes": both[:, :, 0], "high_bytes": both[:, :, 1]})


def _single(array: AnyArray) -> AnyArray:
    return recorded(array, "<f4") if array.dtype == np.float64 else array
