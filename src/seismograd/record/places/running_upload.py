"""The upload of a run from the side of its training: begin it, and at the end wait for it a
little.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.i18n import Message, language, say
from seismograd.package_info import PACKAGE_DIR
from seismograd.record.places.end_mark import end_mark
from seismograd.record.places.place_packages import implementation_of
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.watched_process import is_at_work, start_of

if TYPE_CHECKING:
    from seismograd.record.places.upload_status import UploadStatus

_POLL_S = 0.05
_START_S = 10.0
_MOST_NUMBER = 20  # digits
# An interpreter that only starts another one and ends: so that one is no child of the training,
# which may wait for all of its children.
_DETACH = """
import os, sys
process = os.fork()
if process == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
print(process)
"""
_FOR_PEOPLE = ("PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONPROFILEIMPORTTIME")
_SEND = (
    "import sys; sys.path.append({package!r}); "
    "from seismograd.record.places.upload_process import main; main()"
)


class RunningUpload:
    """Begins to send the record in a directory, in a process of its own.

    Args:
        spool: the directory.
        url: where it goes.
        wait_s: how long `finish` waits at most.
        stays: it is there for records of other processes until this one ends.

    `process`: the number of the process; 0 where it is not known.
    """

    def __init__(self, spool: Path, url: PlaceUrl, wait_s: float, stays: bool = False) -> None:
        self._spool = spool
        self._url = url
        self._wait_s = wait_s
        self._stays = stays
        self._owner = os.getpid()
        self._home = Path.cwd()  # the script may change directory
        self._old_end = end_mark(spool)  # where it goes on
        self._problem = ""
        self.process, self._started = 0, ""
        try:
            self.process = self._start()
            self._started = start_of(self.process) or ""
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._problem = f"{type(error).__name__}: {error}"

    def finish(self, path: Path) -> Message | None:
        """Wait until the record is at the place, but not for long; return what is to be said of
        it; `None` where nothing new was recorded, and in a forked child. `path`: where the record
        is.
        """
        from seismograd.record.compatibility import is_recorded

        if os.getpid() != self._owner:
            return None
        if path not in self._all():
            return self._left_over(path, say("the record goes on in another directory").render())
        if not is_recorded(path) or (self._old_end and end_mark(path) == self._old_end):
            return None
        with suppress(KeyboardInterrupt):  # whoever does not want to wait
            self._wait()
        return self._result()

    def _start(self) -> int:
        """Start the process, and return its number."""
        request = {
            "spool": str(self._spool),
            "url": self._url.text,  # not on a command line, which everybody can read
            "process": self._owner,
            "start": start_of(self._owner) or "",
            "lang": language(),
            "path": [each for each in sys.path if each],
            "end": self._old_end,
            "stays": self._stays,
            "implementation": implementation_of(self._url),
        }
        send = [sys.executable, "-P", "-c", _SEND.format(package=str(PACKAGE_DIR.parent))]
        if sys.platform == "win32":
            command, flags = send, subprocess.DETACHED_PROCESS | subprocess.CREATE_NO_WINDOW
        else:
            command, flags = [sys.executable, "-I", "-S", "-c", _DETACH, *send], 0
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the training
            creationflags=flags,
            env={name: text for name, text in os.environ.items() if name not in _FOR_PEOPLE},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            process.stdin.write(json.dumps(request).encode())
            process.stdin.close()
            if sys.platform == "win32":
                process.returncode = 0  # nobody waits for it
                return 0
            process.wait(_START_S)
            return int(process.stdout.read(_MOST_NUMBER))

    def _wait(self) -> None:
        end_s = time.monotonic() + self._wait_s
        while not self._problem and time.monotonic() < end_s:
            is_gone = self.process != 0 and not is_at_work(self.process, self._started)
            statuses = [self._status(path) for path in self._all()]
            if is_gone or all(each is not None and each.is_final for each in statuses):
                return
            time.sleep(_POLL_S)

    def _status(self, path: Path) -> UploadStatus | None:
        """Return what the process says of a record; `None` where only an earlier one did."""
        from seismograd.record.places.upload_status import read_status

        status = read_status(path)
        is_ours = status is not None and self.process in (0, status.process)
        return status if is_ours else None

    def _result(self) -> Message:
        from seismograd.record.places.upload_status import UploadState

        shown = self._url.shown
        for path in self._all():
            status = self._status(path)
            if status is None or status.state != UploadState.COMPLETE:
                reason = "" if status is None else status.reason
                return self._left_over(path, self._problem or reason)
            shown = status.url if path == self._spool else shown
        return say("the record is also at {url}", url=shown)

    def _left_over(self, path: Path, reason: str) -> Message:
        is_below = path.is_relative_to(self._home)
        typed = os.path.relpath(path, self._home) if is_below else str(path)
        return say(
            "not all of the record is at {url} yet{reason}; this sends the rest: "
            "seismograd upload {path} {url}",
            url=self._url.shown,
            path=shlex.quote(typed),
            reason=f" ({reason})" if reason else "",
        )

    def _all(self) -> Iterator[Path]:
        """Yield the record and those of other processes."""
        from seismograd.record.lazy_writer import paths_of_others

        yield self._spool
        yield from paths_of_others(self._spool)
