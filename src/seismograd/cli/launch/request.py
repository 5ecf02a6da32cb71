"""What the command line asks `seismograd run` to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.cli.launch.script_runner import ScriptProgram
from seismograd.settings.recording_options import RecordingOptions

if TYPE_CHECKING:
    from seismograd.record.places.running_upload import RunningUpload


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command line.

    `program` is None for a module, which is found only when its turn has come; `path` in a process
    other than rank 0, which does not record but reports to rank 0, or keeps what it measured beside
    `base`.
    """

    target: str
    arguments: Sequence[str]
    program: ScriptProgram | None
    path: Path | None
    options: RecordingOptions
    quiet: bool
    lang: str
    base: Path | None = None
    upload: RunningUpload | None = None
