"""Choose the directory of a run: a new one, or an empty one that the user named. Loads no NumPy,
because it runs before the user's script.

Of two programs that begin at once with one directory, the second takes one beside it.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record.run_claim import STARTED, claim, is_starting, release

RUNS = "runs"
_LONGEST_NAME = 80
_MOST_LOOKS, _LOOK_S = 20, 0.01  # at a claim that is being written
_PROBE_BYTES = 65536  # more than a file system keeps free for itself in a block


def create_run_directory(
    out: Path | None, script: str, within: Path | None = None, name: str = ""
) -> Path:
    """Create the directory of a new run, claim it and make sure that it is writable.

    Args:
        out: the directory; it may exist when it is empty. `None`: `runs/<UTC time>-<script name>`
            here, numbered when that exists.
        script: the script or module that is run, for the name.
        within: the directory that a new one is made in, in place of `runs`.
        name: its name there.

    Returns:
        The absolute path, so that a script that changes directory does not lose it. It is one
        beside `out` when another program that is just beginning has claimed that.

    Raises:
        SeismogradError: it exists and is not empty, is not a directory, or cannot be written.
    """
    path = Path.cwd() / (within or RUNS) if out is None else Path.cwd() / out
    try:
        path = _new_directory(path, script, name) if out is None else _claimed(path, script)
        try:
            _probe(path)
        except BaseException:
            release(path)
            raise
    except OSError as error:
        raise SeismogradError(
            say(
                "cannot write a run to {path}: {reason}",
                path=str(path),
                reason=error.strerror or str(error),
            ),
            _elsewhere(),
        ) from error
    return path


def named_directory(
    out: Path | None, script: str, within: Path | None = None, name: str = ""
) -> Path:
    """Return the directory of a new run as `create_run_directory` would name it."""
    if out is not None:
        return Path.cwd() / out
    return Path.cwd() / (within or RUNS) / (name or _dated_name(script))


def _dated_name(script: str) -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{_script_name(script)}"


def _new_directory(runs: Path, script: str, name: str) -> Path:
    name = name or _dated_name(script)
    runs.mkdir(parents=True, exist_ok=True)
    number = 1
    # terminates: each iteration tries another name, and another process may have taken this one
    while True:
        path = runs / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            claim(path, Path(script).name)
            return path


def _claimed(path: Path, script: str) -> Path:
    """Return the directory that the user named, or the first one beside it that no other program
    has claimed that is just beginning.
    """
    for number in count(1):
        free = path if number == 1 else path_of_process(path, number)
        if is_starting(free):
            continue
        try:
            _empty_directory(free)
            claim(free, Path(script).name)
        except FileExistsError:  # taken since
            continue
        except SeismogradError:
            if not _was_claimed_since(free):
                raise
        else:
            return free
    raise AssertionError("endless")


def _was_claimed_since(path: Path) -> bool:
    """Return whether another program has just claimed a directory that was nobody's before; its
    claim is empty until it is whole.
    """
    for _ in range(_MOST_LOOKS):
        try:
            is_whole = (path / STARTED).stat().st_size > 0
        except OSError:
            return False
        if is_starting(path):
            return True
        if is_whole:
            return False
        time.sleep(_LOOK_S)
    return False


def path_of_process(path: Path, number: int) -> Path:
    """Return the directory of the second, third, ... process that trains independently in a run
    recorded at `path`.
    """
    return path.with_name(f"{path.name}-process-{number}")


def _empty_directory(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SeismogradError(
            say("{path} is a file, not a directory", path=str(path)), _elsewhere()
        )
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise SeismogradError(
            say("{path} is not empty, and existing files are not overwritten", path=str(path)),
            _elsewhere(),
        )


def _script_name(script: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", Path(script).name.removesuffix(".py")).strip("-.")
    return name[:_LONGEST_NAME] or "run"


def _probe(path: Path) -> None:
    """Write and remove a file: permissions alone do not show a full disk, a quota or a read-only
    mount.
    """
    probe = path / ".probe"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _elsewhere() -> Message:
    return say("choose another directory with --out DIR")
