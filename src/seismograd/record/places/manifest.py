"""The list of all files of a record that is at a place as a whole, each as a file of its own."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seismograd.record.places.spool_files import found_files
from seismograd.record.places.stored_names import is_record_file
from seismograd.record.recorded_files import open_file
from seismograd.record.seals import dumps_sealed, loads_sealed
from seismograd.record.validation import count, mapping

FORMAT = "seismograd upload"
MOST_BYTES = 2**26
_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file: its bytes, the CRC-32 of them, when it was last written."""

    size: int
    crc32: int
    modified_ns: int


def listed_files(path: Path) -> dict[str, ListedFile]:
    """Return the files of a record on the disk, read as a whole."""
    return {
        name: ListedFile(file.size, crc32_of(path / name), file.modified_ns)
        for name, file in found_files(path).items()
    }


def manifest_to_bytes(files: Mapping[str, ListedFile]) -> bytes:
    """Return the list as JSON with a seal."""
    listed = [
        {"name": name, "size": each.size, "crc32": each.crc32, "modified_ns": str(each.modified_ns)}
        for name, each in sorted(files.items())
    ]
    return dumps_sealed({"format": FORMAT, "schema": 1, "files": listed}, 1) + b"\n"


def manifest_from_bytes(data: bytes) -> dict[str, ListedFile]:
    """Return the list.

    Raises:
        ValueError: it is not whole, or none.
    """
    try:
        content = mapping(loads_sealed(data))
        if content["format"] != FORMAT or content["schema"] != 1:
            raise ValueError("another format")
        return dict(_listed(each) for each in content["files"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a manifest") from error


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of a file of a record."""
    crc = 0
    with os.fdopen(open_file(path), "rb", buffering=0) as file:
        while chunk := file.read(_AT_ONCE):
            crc = zlib.crc32(chunk, crc)
    return crc


def _listed(each: Mapping[str, Any]) -> tuple[str, ListedFile]:
    name, size = str(each["name"]), count(each["size"])
    if not is_record_file(name) or size < 0:
        raise ValueError("not a file of a record")
    return name, ListedFile(size, count(each["crc32"]), int(each["modified_ns"]))
