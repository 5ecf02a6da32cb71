"""Read and write JSON that every reader accepts: NaN and the infinities are the strings "nan",
"inf" and "-inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np


def dumps(value: object, indent: int | None = None) -> bytes:
    """Return the value as UTF-8 JSON; file names that are not valid text are escaped."""
    try:
        return _encoded(value, indent)
    except (TypeError, ValueError):  # a NumPy scalar or another mapping; NaN or an infinity
        return _encoded(_plain(value), indent)


def _encoded(plain: object, indent: int | None) -> bytes:
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(plain, allow_nan=False, indent=indent).encode()


def loads(text: bytes) -> Any:
    """Return what `dumps` wrote; raises `ValueError` for anything that is not JSON. Pass the
    numbers through `number`.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_constant(name: str) -> object:
    raise ValueError(name)


def number(value: object) -> float:
    """Return a float as `dumps` wrote it."""
    return float(cast("float | str", value))


def scalar(value: object) -> object:
    """Return a NumPy scalar as Python's; anything else unchanged."""
    return cast("np.generic[Any]", value).item() if isinstance(value, np.generic) else value


def _plain(value: object) -> object:
    value = scalar(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)]
    return value
