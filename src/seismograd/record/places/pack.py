"""Packs: what a record has gained since the one before, as one object. A store has no file that
grows, and a record has many; so a record that is still being written is sent as numbered packs, and
any first few of them are a record as it was at a moment.

A pack is a line, its length, JSON that names the pieces, then their bytes; each has a checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seismograd.record.places.stored_names import is_record_file
from seismograd.record.seals import dumps_sealed, loads_sealed
from seismograd.record.validation import count, mapping, text

_MAGIC = b"seismograd pack 1\n"
_LENGTH = 8  # bytes
_MOST_HEADER = 2**26
_MOST_PIECES = 2**20


@dataclass(frozen=True, slots=True)
class FilePiece:
    """What a file holds from `offset` on, where it had ended, or from 0 where it is anew."""

    name: str
    offset: int
    content: bytes
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Pack:
    """Pieces in the order in which they are written; before that everything is removed where it is
    `anew`, or else the `removed` files.
    """

    pieces: Sequence[FilePiece]
    removed: Sequence[str] = ()
    anew: bool = False

    def encoded(self) -> bytes:
        """Return it as bytes."""
        files = [
            {
                "name": each.name,
                "offset": each.offset,
                "size": len(each.content),
                "crc32": zlib.crc32(each.content),
                "modified_ns": str(each.modified_ns),  # beyond what a double holds
            }
            for each in self.pieces
        ]
        header = dumps_sealed({"anew": self.anew, "removed": [*self.removed], "files": files})
        length = len(header).to_bytes(_LENGTH, "little")
        return b"".join([_MAGIC, length, header, *(each.content for each in self.pieces)])


def decoded(data: bytes) -> Pack:
    """Return a pack.

    Raises:
        ValueError: it is not whole, or is none.
    """
    start = len(_MAGIC) + _LENGTH
    length = int.from_bytes(data[len(_MAGIC) : start], "little")
    if data[: len(_MAGIC)] != _MAGIC or length > min(_MOST_HEADER, len(data) - start):
        raise ValueError("not a pack")
    try:
        header = mapping(loads_sealed(data[start : start + length]))
        files, removed = header["files"], header["removed"]
        if not isinstance(files, list) or not isinstance(removed, list):
            raise ValueError("not a list")
        names = [_name(each) for each in removed]  # pyright: ignore[reportUnknownVariableType]
        pieces = _pieces(data, start + length, files)  # pyright: ignore[reportUnknownArgumentType]
        return Pack(pieces, names, header["anew"] is True)
    except (KeyError, TypeError) as error:
        raise ValueError("not a pack") from error


def _pieces(data: bytes, start: int, files: Sequence[Mapping[str, Any]]) -> list[FilePiece]:
    if len(files) > _MOST_PIECES:
        raise ValueError("too many files")
    pieces: list[FilePiece] = []
    for each in files:
        size, offset = count(each["size"]), count(each["offset"])
        content = data[start : start + max(size, 0)]
        if offset < 0 or len(content) != size or zlib.crc32(content) != each["crc32"]:
            raise ValueError("a piece is damaged")
        pieces.append(FilePiece(_name(each["name"]), offset, content, int(each["modified_ns"])))
        start += size
    if start != len(data):
        raise ValueError("something follows")
    return pieces


def _name(value: Any) -> str:
    if not is_record_file(text(value)):
        raise ValueError("not the name of a file of a record")
    return str(value)
