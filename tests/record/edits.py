"""Change a record as somebody would who knows of its checksums, or knew none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seismograd.record.checksums import CHECKS


def read_unsealed(path: Path) -> dict[str, Any]:
    """The JSON object in a file, to be written without a seal."""
    content = json.loads(path.read_text("utf-8"))
    content.pop("crc32", None)
    return content


def without_checksums(record: Path) -> Path:
    """Make a record what those of earlier versions are: no logs, no seals."""
    for log in list(record.rglob(CHECKS)):
        log.unlink()
    for path in record.rglob("*.json"):
        content = read_unsealed(path)
        for name in ("checked", "checked_of_segment"):
            content.pop(name, None)
        path.write_text(json.dumps(content), "utf-8")
    for path in record.rglob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for line in lines:
            line.pop("crc32", None)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return record
