"""Seal a JSON object with a checksum of its own: its last member, `crc32`, is that of the bytes
before it.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from seismograd.home_directory import without_home
from seismograd.record.strict_json import dumps, loads

_SEAL = re.compile(rb', "crc32": "([0-9a-f]{8})"\}\s*\Z')


def dumps_sealed(value: object, indent: int | None = None) -> bytes:
    """Return a JSON object with its seal, and without the name of the home directory; see
    `dumps`.
    """
    body = without_home(dumps(value, indent))[:-1].rstrip(b"\n")  # without the last brace
    return body + b', "crc32": "%08x"}' % zlib.crc32(body)


def loads_sealed(data: bytes) -> Any:
    """Return what `dumps_sealed` wrote, or an object of before there were seals.

    Raises:
        ValueError: it is not JSON, or the seal belongs to something else.
    """
    seal = _SEAL.search(data)
    if seal is None:
        return loads(data)
    if zlib.crc32(data[: seal.start()]) != int(seal[1], 16):
        raise ValueError("the checksum is wrong")
    value = loads(data)
    value.pop("crc32", None)
    return value
