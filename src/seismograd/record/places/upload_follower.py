"""Send a record while it is written, and its end, until all of it is at the place."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.record import layout
from seismograd.record.places.end_mark import EndMark, end_mark
from seismograd.record.places.record_upload import RecordUpload
from seismograd.record.places.upload_status import UploadState, write_status

_SHORTEST_S, _USUAL_S, _LONGEST_S = 2.0, 10.0, 300.0  # between two packs
_LONGEST_RETRY_S = 60.0
GIVE_UP_S = 1800.0  # behind the end of the training
_MOST_REASON = 200


class UploadFollower:
    """Follows one record. Call `turn` again and again: it does what is due.

    Args:
        path: the record.
        upload: sends it.
        is_written: returns whether the program that writes it has not ended.
        clock: returns seconds.
        old_end: the end that the record had before it went on.
    """

    def __init__(
        self,
        path: Path,
        upload: RecordUpload,
        is_written: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        old_end: EndMark | None = None,
    ) -> None:
        self._path = path
        self._upload = upload
        self._is_written = is_written
        self._clock = clock
        self._began_s = self._due_s = clock()
        self._ended_s: float | None = None
        self._num_failures = self._num_turns = 0
        self._old_end = old_end

    def turn(self) -> bool:
        """Send what is due; return whether there is nothing more to do."""
        if not self._path.is_dir():
            return True
        now = self._clock()
        if self._ended_s is None and self._has_ended():
            self._ended_s, self._due_s, self._num_failures = now, now, 0
        if not (self._path / layout.META).exists():
            return self._ended_s is not None
        if now < self._due_s:
            return False
        if not self._num_turns:
            self._say(UploadState.RUNNING)  # the place may hang
        self._num_turns += 1
        try:
            if self._ended_s is not None:
                self._upload.complete()
                self._say(UploadState.COMPLETE)
                return True
            self._upload.send_changes()
            self._say(UploadState.RUNNING)
        except SeismogradError as error:
            self._say(UploadState.REFUSED, error.line())
            return True
        except Exception as error:
            return self._failed(error)
        self._num_failures = 0
        self._due_s = self._clock() + self._interval_s(self._clock() - now)
        return False

    def _has_ended(self) -> bool:
        end = end_mark(self._path)
        return (end is not None and end != self._old_end) or not self._is_written()

    def _interval_s(self, took_s: float) -> float:
        """Return the seconds until the next pack: a long training has fewer of them."""
        past_s = self._clock() - self._began_s
        usual_s = max(min(past_s / 10, _USUAL_S), past_s / 100)
        return max(min(max(usual_s, _SHORTEST_S), _LONGEST_S), 5 * took_s)

    def _failed(self, error: Exception) -> bool:
        """Say so and wait for longer each time; return whether it is given up."""
        self._num_failures += 1
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self._say(
            UploadState.FAILING, self._upload.url.without_secrets(text)[:_MOST_REASON].strip()
        )
        self._due_s = self._clock() + min(2.0**self._num_failures, _LONGEST_RETRY_S)
        return self._ended_s is not None and self._clock() - self._ended_s > GIVE_UP_S

    def _say(self, state: UploadState, reason: str = "") -> None:
        with suppress(OSError):  # it was removed, or the disk is full
            write_status(self._path, self._upload.url.shown, state, reason)
