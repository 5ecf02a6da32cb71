"""Where records from places are kept on this machine."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.append_file import AppendFile
from seismograd.record.places.place_url import PlaceUrl

_PATIENCE_S = 600.0
_POLL_S = 0.1
_in_this_process = threading.Lock()


def cache_folder(url: PlaceUrl) -> Path:
    """Return the directory for the records of a folder at a place; made where it is not there.

    Raises:
        SeismogradError: it cannot be written.
    """
    path = _root() / hashlib.sha256(url.shown.rstrip("/").encode()).hexdigest()[:16]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SeismogradError(
            say(
                "cannot write to {path}: {reason}",
                path=str(path),
                reason=error.strerror or str(error),
            ),
            say("XDG_CACHE_HOME names another directory for caches"),
        ) from error
    return path


@contextmanager
def locked(folder: Path, name: str) -> Generator[None]:
    """Keep others from writing the record of this name.

    Raises:
        SeismogradError: somebody else has been writing it for long.
    """
    end_s = time.monotonic() + _PATIENCE_S
    with _in_this_process:
        file = AppendFile(folder / f".{name}.lock", goes_on=True)
        try:
            while not file.lock():
                if time.monotonic() > end_s:
                    raise SeismogradError(
                        say(
                            "{path} is still being written by another process",
                            path=str(folder / name),
                        )
                    )
                time.sleep(_POLL_S)
            yield
        finally:
            file.close()


def _root() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "seismograd" / "places"
