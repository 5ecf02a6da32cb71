"""What a record on the disk has gained since it was last sent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seismograd.record import layout
from seismograd.record.checksums import CHECKS
from seismograd.record.places.pack import FilePiece, Pack
from seismograd.record.places.spool_files import SpoolFile, found_files, sending_order
from seismograd.record.recorded_files import open_file

PACK_BYTES = 2**24
_TAIL = 4096  # bytes that show whether a file still begins with what was sent
_REPLACED = (layout.FINDINGS, ".json", ".txt")  # whole, whenever they change


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file as it was sent: up to which byte, and the digest of the last ones."""

    found: SpoolFile
    size: int
    tail: bytes


class SpoolChanges:
    """Remembers what was sent of a record that is being written.

    Args:
        path: the record.
        pack_bytes: how large packs may become.
    """

    def __init__(self, path: Path, pack_bytes: int = PACK_BYTES) -> None:
        self._path = path
        self._pack_bytes = pack_bytes
        self._sent: dict[str, SentFile] | None = None

    def packs(self) -> Iterator[Pack]:
        """Yield what is new, as packs of limited size; each of them counts as sent when the next
        one is asked for.
        """
        found = found_files(self._path)
        sent = dict(self._sent or {})
        anew = self._sent is None or self._went_back(found)
        if anew:
            sent = {}
        removed = [name for name in sent if name not in found]
        for name in removed:
            del sent[name]
        pieces: list[FilePiece] = []
        num_bytes = 0
        for name in sorted(found, key=sending_order):
            for piece in self._pieces(name, found[name], sent.get(name)):
                if pieces and num_bytes + len(piece.content) > self._pack_bytes:
                    yield Pack(pieces, removed, anew)
                    self._sent = dict(sent)
                    pieces, removed, anew, num_bytes = [], [], False, 0
                pieces.append(piece)
                num_bytes += len(piece.content)
                end = piece.offset + len(piece.content)
                sent[name] = SentFile(found[name], end, self._tail(name, end))
        if pieces or removed or anew:
            yield Pack(pieces, removed, anew)
        self._sent = sent

    def _pieces(self, name: str, file: SpoolFile, old: SentFile | None) -> Iterator[FilePiece]:
        """Yield what is new in a file."""
        if old is not None and file == old.found:
            return
        start = old.size if old is not None and self._goes_on(name, file, old) else 0
        while True:
            content = _read(self._path / name, start, min(self._pack_bytes, file.size - start))
            if content is None:  # removed since
                return
            yield FilePiece(name, start, content, file.modified_ns)
            start += len(content)
            if not content or start >= file.size:
                return

    def _went_back(self, found: Mapping[str, SpoolFile]) -> bool:
        """Return whether the record was taken back, or mended: its logs of checksums are others."""
        return any(
            name.rpartition("/")[2] == CHECKS and not self._goes_on(name, found[name], old)
            for name, old in (self._sent or {}).items()
            if name in found and found[name] != old.found
        )

    def _goes_on(self, name: str, file: SpoolFile, old: SentFile) -> bool:
        """Return whether a file begins with all that was sent of it."""
        return (
            not name.endswith(_REPLACED)
            and file.size >= old.size
            and self._tail(name, old.size) == old.tail
        )

    def _tail(self, name: str, end: int) -> bytes:
        """Return what the last bytes before this one are told by. The entries of the logs end with
        their own CRC-32, so that of several is always the same.
        """
        start = max(0, end - _TAIL)
        return hashlib.blake2b(_read(self._path / name, start, end - start) or b"").digest()


def _read(path: Path, start: int, size: int) -> bytes | None:
    """Return what a file holds there, which may be less; `None` where there is no file."""
    try:
        with os.fdopen(open_file(path), "rb", buffering=0) as file:
            file.seek(start)
            content = bytearray()
            while len(content) < size and (chunk := file.read(size - len(content))):
                content += chunk
    except FileNotFoundError:
        return None
    return bytes(content)
