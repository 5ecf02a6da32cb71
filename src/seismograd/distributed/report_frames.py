"""Split what processes send each other into messages: a kind and a length before each."""

from __future__ import annotations

import struct
from enum import IntEnum

_HEAD = struct.Struct("<BQ")


MAX_FRAME_BYTES = 2**31


class FrameKind(IntEnum):
    """The kind of a message."""

    HELLO = 1  # JSON: token, rank, layout
    COLUMNS = 2  # JSON: the columns of the reports that follow
    REPORT = 3  # one iteration
    NOTE = 4  # text: a failure of that process
    END = 5  # the last message
    LEAVE = 6  # JSON, from rank 0: columns that it holds itself
    EXCHANGE = 7  # in files only: what the processes have exchanged, as rank 0 knows


def frame(kind: FrameKind, payload: bytes = b"") -> bytes:
    """Return a message with its kind and length before it."""
    return _HEAD.pack(kind, len(payload)) + payload


class FrameDecoder:
    """Splits a stream of bytes into messages. Raises `ValueError` for an invalid stream."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes of the incomplete message."""
        return len(self._data)

    def feed(self, data: bytes) -> list[tuple[FrameKind, bytes]]:
        """Return the messages that this chunk completes."""
        self._data += data
        found: list[tuple[FrameKind, bytes]] = []
        start = 0
        while len(self._data) - start >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._data, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError("a message too long")
            if len(self._data) - start < _HEAD.size + length:
                break
            start += _HEAD.size
            found.append((FrameKind(kind), bytes(self._data[start : start + length])))
            start += length
        del self._data[:start]
        return found
