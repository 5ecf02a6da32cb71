"""The names of files at a place, and which of them a reader accepts: a place may be anybody's."""

from __future__ import annotations

import re

PACKS = "packs"
MANIFEST = "uploaded.json"
STATUS = "upload.json"  # beside the record on the disk: how far its upload is
_NOT_SENT = frozenset({STATUS, "writing.lock"})
_MOST_PARTS = 8
_LONGEST = 400
_PART = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|.][^\x00-\x1f\x7f/\\:*?\"<>|]*", re.ASCII)
_PACK = re.compile(r"(\d{6})\.pack", re.ASCII)


def is_record_file(name: str) -> bool:
    """Return whether a file of this name may be part of a record: a relative path without a part
    that leads elsewhere, is hidden, or means something to an operating system.
    """
    parts = name.split("/")
    return (
        len(parts) <= _MOST_PARTS
        and len(name) <= _LONGEST
        and all(_PART.fullmatch(part) and not part.endswith((".", " ")) for part in parts)
    )


def is_sent(name: str) -> bool:
    """Return whether a file of a record on the disk goes to the place; those with a name that
    ends in .new are being written.
    """
    is_own = name in _NOT_SENT or name == MANIFEST or name.startswith(f"{PACKS}/")
    return is_record_file(name) and not is_own and not name.endswith(".new")


def pack_name(number: int) -> str:
    """Return the name of a pack, from 1."""
    return f"{PACKS}/{number:06d}.pack"


def pack_number(name: str) -> int | None:
    """Return the number of a pack; `None` where it is not the name of one."""
    found = _PACK.fullmatch(name.rpartition("/")[2])
    return None if found is None else int(found[1])
