"""The copy of a record on this machine, and what is known of what it was made from."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from seismograd.record.append_file import replace_document
from seismograd.record.places.pack import Pack

Key = list[Any]  # what tells a stored file from a later one of the same name


class FetchedRecord:
    """A directory that is made to be what a place holds.

    Args:
        folder: the directory that it is in.
        name: its name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._known_path = folder / f".{name}.json"
        self.files: dict[str, Key] = {}  # of a record of plain files
        self.packs: list[Key] = []  # of a record of packs, in their order
        self._is_torn = False
        try:
            known = json.loads(self._known_path.read_bytes())
            self.files, self.packs = dict(known["files"]), list(known["packs"])
        except (OSError, ValueError, KeyError, TypeError):
            self._clear()
        self._known_path.unlink(missing_ok=True)  # until all of it is true again

    def save(self) -> None:
        """Keep what is known, unless a pack was written in part."""
        if self._is_torn or not self.path.is_dir():
            return
        known = json.dumps({"files": self.files, "packs": self.packs}).encode()
        replace_document(self._known_path, known)

    def begin_packs(self, keys: list[Key]) -> int:
        """Return how many of the first packs, which have these keys, the copy has."""
        if self._is_torn or self.files or self.packs != keys[: len(self.packs)]:
            self._clear()
        self.path.mkdir(exist_ok=True)
        return len(self.packs)

    def add_pack(self, pack: Pack, key: Key) -> None:
        """Make the copy what it was with this pack.

        Raises:
            ValueError: the pack does not belong behind the one before.
        """
        self._is_torn = True
        if pack.anew:
            _empty(self.path)
        self._remove(pack.removed)
        for piece in pack.pieces:
            path = self.path / piece.name
            path.parent.mkdir(parents=True, exist_ok=True)
            size = path.stat().st_size if path.exists() else 0
            if piece.offset not in (0, size):
                raise ValueError("a piece is missing")
            with path.open("ab" if piece.offset else "wb") as file:
                file.write(piece.content)
            _set_modified(path, piece.modified_ns)
        self.packs.append(key)
        self._is_torn = False

    def begin_files(self, names: Iterable[str]) -> None:
        """Leave none but these files."""
        if self._is_torn or self.packs:
            self._clear()
        self.path.mkdir(exist_ok=True)
        self._remove(set(self.files) - set(names))

    def has_file(self, name: str, key: Key) -> bool:
        """Return whether the copy has this file already."""
        path = self.path / name
        return self.files.get(name) == key and path.is_file() and path.stat().st_size == key[0]

    def add_file(
        self, name: str, key: Key, chunks: Iterable[bytes], crc32: int | None, modified_ns: int
    ) -> None:
        """Write a file, whole or not at all.

        Raises:
            ValueError: it has another size or another checksum than the place says.
        """
        self.files.pop(name, None)
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        size, crc = 0, 0
        with new.open("wb") as file:
            for chunk in chunks:
                size, crc = size + len(chunk), zlib.crc32(chunk, crc)
                if size > key[0]:
                    break
                file.write(chunk)
        if size != key[0] or crc32 not in (None, crc):
            new.unlink()
            raise ValueError(name)
        _set_modified(new, modified_ns)
        new.replace(path)
        self.files[name] = key

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.files.pop(name, None)
            (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                (self.path / name).parent.rmdir()

    def _clear(self) -> None:
        self.files, self.packs, self._is_torn = {}, [], False
        if self.path.exists():
            shutil.rmtree(self.path)


def _empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _set_modified(path: Path, modified_ns: int) -> None:
    with suppress(OSError, OverflowError):
        os.utime(path, ns=(modified_ns, modified_ns))
