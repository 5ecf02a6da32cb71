"""Whether a file that a command is asked for can be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say


def check_output_file(path: Path, suffixes: Sequence[str]) -> None:
    """Reject a file that could not be written, before there is any work for it.

    Raises:
        SeismogradError: its suffix is none of these, or its folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise SeismogradError(
            say("{path} has no supported format", path=str(path)),
            say("use one of these suffixes: {forms}", forms=", ".join(suffixes)),
        )
    if not path.parent.is_dir():
        raise SeismogradError(
            say("directory {path} does not exist", path=str(path.parent)), say("create it first")
        )
