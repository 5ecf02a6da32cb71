"""A process of its own that sends a record, beside the training.

Not a thread of the training: stores and their packages take the interpreter's lock, draw from
Python's `random` before they try again, keep event loops and register things for forks. And when
the training is killed, this one goes on and sends the rest.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from seismograd.i18n import use_language
from seismograd.record.places.end_mark import EndMark
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.record_upload import RecordUpload
from seismograd.record.places.upload_follower import GIVE_UP_S, UploadFollower
from seismograd.record.places.watched_process import is_at_work
from seismograd.record.run_activity import idle_s
from seismograd.record.run_claim import STARTED
from seismograd.record.run_directory import path_of_process

_POLL_S = 0.25
_LOOK_S = 10.0
_LOST_S = 3600.0  # without a word, where the system does not say whether the training goes on


def main() -> None:
    """Read from stdin what to send, and send it."""
    request = json.loads(sys.stdin.buffer.read())
    sys.path += [each for each in request["path"] if each not in sys.path]
    if request["implementation"]:
        core: Any = import_module("fsspec")
        protocol = PlaceUrl(request["url"]).protocol
        core.register_implementation(protocol, request["implementation"], clobber=True)
    owner = request["process"], request["start"]
    threading.Thread(target=end_with, args=owner, daemon=True).start()
    with use_language(request["lang"]):
        send_all(
            Path(request["spool"]),
            PlaceUrl(request["url"]),
            request["process"],
            request["start"],
            None if request["end"] is None else (request["end"][0], request["end"][1]),
            request["stays"],
        )


def end_with(process: int, start: str, give_up_s: float = 2 * GIVE_UP_S) -> None:
    """End this process long after that one, when it hangs in a place that does not answer."""
    while is_at_work(process, start):
        time.sleep(_LOOK_S)
    time.sleep(give_up_s)
    os._exit(1)


def send_all(
    spool: Path, url: PlaceUrl, process: int, start: str, old_end: EndMark | None, stays: bool
) -> None:
    """Send a record, and those that other processes of the same training make beside it, until
    they have ended, or where it `stays` also the process, which may start more of them. `old_end`:
    see `UploadFollower`.
    """
    began_s = time.time()
    followers: dict[Path, UploadFollower] = {}
    finished: set[Path] = set()

    def is_written() -> bool:
        knows = start != ""
        return is_at_work(process, start) and (knows or idle_s(spool) < _LOST_S)

    while True:
        for number in count(1):
            path = spool if number == 1 else path_of_process(spool, number)
            if path not in followers:
                if number > 1 and not _is_new(path, began_s):
                    break
                ending = "" if number == 1 else f"-process-{number}"
                upload = RecordUpload(path, url.beside(ending))
                end = old_end if path == spool else None
                followers[path] = UploadFollower(path, upload, is_written, old_end=end)
        for path, follower in followers.items():
            if path not in finished and follower.turn():
                finished.add(path)
        if len(finished) == len(followers) and not (stays and is_written()):
            return
        time.sleep(_POLL_S)


def _is_new(path: Path, began_s: float) -> bool:
    try:
        return (path / STARTED).stat().st_mtime >= began_s - 1
    except OSError:
        return False
