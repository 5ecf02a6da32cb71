"""Read and write JSON that every reader accepts: NaN and the infinities are the strings "nan",
"inf" and "-inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

_PIECE = 64  # items of a list


def dumps(value: object, indent: int | None = None) -> bytes:
    """Return the value as UTF-8 JSON; file names that are not valid text are escaped."""
    try:
        return _encoded(value, indent)
    except (TypeError, ValueError):  # a NumPy scalar or another mapping; NaN or an infinity
        return _encoded(_plain(value), indent)


def _encoded(plain: object, indent: int | None) -> bytes:
    try:
        return _text(plain, indent, ascii_only=False).encode()
    except UnicodeEncodeError:
        return _text(plain, indent, ascii_only=True).encode()


def _text(plain: object, indent: int | None, *, ascii_only: bool) -> str:
    """Return what `json.dumps` returns. It makes a string of every key and number before it joins
    them: of long lists, as that of the parameters, they are made and joined some at a time.
    """

    def dumps(value: object) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, indent=indent)

    if indent is not None or not isinstance(plain, dict):
        return dumps(plain)
    members = cast("dict[object, object]", plain)
    lists = [cast("list[object]", each) for each in members.values() if isinstance(each, list)]
    if not any(len(each) > _PIECE for each in lists):
        return dumps(members)
    pieces: list[str] = []
    for key, value in members.items():
        name = dumps({key: None})[1:-5]  # with the colon, without what JSON has for `None`
        if isinstance(value, list):
            items = cast("list[object]", value)
            parts = (dumps(items[i : i + _PIECE])[1:-1] for i in range(0, len(items), _PIECE))
            pieces.append(f"{name}[{', '.join(parts)}]")
        else:
            pieces.append(name + dumps(value))
    return f"{{{', '.join(pieces)}}}"


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
