"""Follow a run while it is recorded, on a thread of its own, and hand on what is new of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seismograd.record import layout
from seismograd.record.compatibility import is_recorded
from seismograd.record.reader import open_run
from seismograd.record.run_activity import idle_s, is_going_on
from seismograd.views.widget.widget_answers import widget_answers

INTERVAL_S = 0.5  # between two looks
WORKING_SHARE = 0.02  # of one core at most, so that the training keeps its time
PATIENCE_S = 5.0  # for the last look, when a recording is closed
_LOOKED_FOR_S = 600.0  # a run that pauses for longer is not waited for

_GROWING = (layout.STEPS, layout.FINDINGS, layout.NOTES, layout.END)


@dataclass(frozen=True, slots=True)
class GrowingRun:
    """A run that may grow.

    Args:
        path: returns where it is recorded; `None`: nowhere.
        goes_on: returns whether it is being recorded.
        has_ended: returns whether nothing more will be written.
    """

    path: Callable[[], Path | None]
    goes_on: Callable[[], bool]
    has_ended: Callable[[], bool]

    @classmethod
    def on_disk(cls, path: Path) -> GrowingRun:
        """Return a run that another process may be recording."""

        def has_ended() -> bool:
            return (path / layout.END).exists() or idle_s(path) > _LOOKED_FOR_S

        return cls(lambda: path, lambda: is_going_on(path), has_ended)


class RunFollower:
    """Hands on the answers of a run, and those of each time that it has grown, until it ends. It
    reads the record and nothing else, so that no training waits for it.

    Args:
        run: what is followed.
        take: gets the answers: at once for a run that has ended, else on the follower's thread.
        on_failure: gets what was raised on that thread, which then ends.
    """

    def __init__(
        self,
        run: GrowingRun,
        take: Callable[[bytes], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._run, self._take, self._on_failure = run, take, on_failure
        self._seen: object = None
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look, and go on looking where the run may still grow.

        Raises:
            SeismogradError: it has ended, and cannot be read.
        """
        if self._run.has_ended():
            self._look()
            return
        self._thread = threading.Thread(target=self._follow, name="seismograd-widget", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the end of the run has been handed on, though not for long."""
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_S)

    def stop(self) -> None:
        """Hand on nothing more."""
        self._stopped = True
        self._wake.set()

    def _follow(self) -> None:
        has_ended = False
        try:
            while not self._stopped:
                has_ended = self._run.has_ended()  # what was written before that is seen
                begun = time.thread_time()
                self._look()
                if has_ended:
                    return
                spent_s = time.thread_time() - begun
                self._wake.wait(max(INTERVAL_S, spent_s / WORKING_SHARE))
                self._wake.clear()
        except Exception as error:
            self._on_failure(error)

    def _look(self) -> None:
        path = self._run.path()
        if path is None or not is_recorded(path):
            return
        goes_on = self._run.goes_on()
        now = (path, goes_on, *(_size(path / name) for name in _GROWING))
        if now == self._seen:
            return
        answers = widget_answers(open_run(path), goes_on)
        if not self._stopped:
            self._take(answers)
        self._seen = now


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
