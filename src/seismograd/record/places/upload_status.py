"""How far the upload of a record is, in a file beside it: `upload.json`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from seismograd.record.append_file import replace_document
from seismograd.record.places.stored_names import STATUS
from seismograd.record.recorded_files import read_document
from seismograd.record.seals import dumps_sealed, loads_sealed
from seismograd.record.validation import build, fields_of


class UploadState(StrEnum):
    """What the upload does."""

    RUNNING = "running"
    FAILING = "failing"  # it is tried again
    REFUSED = "refused"  # it is not
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """Where a record goes, without anything secret, and how far that is. `process`: who sends it.
    `reason`: why it does not go on.
    """

    url: str
    state: UploadState
    process: int = 0
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Return whether nothing more will be sent."""
        return self.state in (UploadState.COMPLETE, UploadState.REFUSED)


def write_status(path: Path, url: str, state: UploadState, reason: str = "") -> None:
    """Write the status of a record; raises `OSError` when the disk rejects it."""
    status = UploadStatus(url, state, os.getpid(), reason)
    replace_document(path / STATUS, dumps_sealed(fields_of(status)) + b"\n")


def read_status(path: Path) -> UploadStatus | None:
    """Return the status of a record; `None` where nothing has been sent."""
    try:
        return build(UploadStatus, loads_sealed(read_document(path / STATUS)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
