"""Hand measurements to a tracker on a thread of its own, so that one that is slow, offline or
broken keeps neither the training nor the record waiting.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from seismograd.sinks.tracker import Alert, RunStart, TrackedStep, Tracker, TrackerEndedError

MOST_WAITING = 2000
MOST_FAILURES = 3  # one after the other: then it is given up
PATIENCE_S = 10.0
_TICK_S = 0.2


class TrackerQueue:
    """Sends to one tracker, in order. What does not fit into its queue, or fails, is counted.

    Args:
        name: of the tracker.
        make: makes it; called on its thread, at the first measurement.
        run: what it is told when it begins.
        on_begun: called once it has begun.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        run: RunStart,
        on_begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._make, self._run, self._on_begun = make, run, on_begun
        self._waiting: deque[TrackedStep | Alert] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._given_up = False
        self._busy = False
        self._exits = False  # libraries may have ended their own
        self._num_taken = 0
        self._failures = 0  # one after the other
        self.num_lost = 0
        self.error: BaseException | None = None

    def put(self, item: TrackedStep | Alert) -> None:
        """Queue something, or count it as lost. It never waits for the tracker."""
        with self._wake:
            if self._given_up or self._closed or len(self._waiting) >= MOST_WAITING:
                self.num_lost += not self._closed
                return
            self._waiting.append(item)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._deliver, name=f"seismograd-{self.name}", daemon=True
                )
                self._thread.start()
            self._wake.notify_all()

    def exit_begins(self) -> None:
        """Send what waits, before libraries end their own at the exit."""
        self.drain()
        self._exits = True

    def drain(self, patience_s: float | None = None) -> bool:
        """Wait until all has been sent; return `False` where nothing was for so long."""
        patience_s = PATIENCE_S if patience_s is None else patience_s
        with self._wake:
            while (self._waiting or self._busy) and not self._given_up:
                before = self._num_taken
                self._wake.wait_for(
                    lambda before=before: self._num_taken != before or self._given_up, patience_s
                )
                if self._num_taken == before and not self._given_up:
                    return False
        return True

    def close(self, patience_s: float | None = None) -> None:
        """Send what waits and close the tracker. One that takes nothing for so long is left."""
        patience_s = PATIENCE_S if patience_s is None else patience_s
        sent = self.drain(patience_s)
        with self._wake:
            self._closed = True
            if not sent:
                self.error = self.error or TimeoutError(f"it took nothing for {patience_s:g} s")
                self._give_up()
            self._wake.notify_all()
        if self._thread is not None and sent:
            self._thread.join(patience_s)

    def _deliver(self) -> None:
        tracker = None
        try:
            tracker = self._make()
            tracker.begin(self._run)
            self._on_begun()
            while self._send_next(tracker):
                pass
        # Whatever a tracker raises, the exit of a thread included, ends this thread only.
        except BaseException as error:
            self._lose(error)
        finally:
            if tracker is not None:
                try:
                    tracker.close()
                except BaseException as error:
                    if not self._has_ended(tracker):
                        self.error = self.error or error

    def _send_next(self, tracker: Tracker) -> bool:
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait(_TICK_S)
            if not self._waiting or self._given_up:
                return False
            item, self._busy = self._waiting.popleft(), True
        try:
            tracker.log(item) if isinstance(item, TrackedStep) else tracker.alert(item)
            self._failures = 0
        except TrackerEndedError:
            self._end_quietly()
        except Exception as error:
            if self._has_ended(tracker):
                self._end_quietly()
                return False
            self._failures += 1
            self.error = self.error or error
            self.num_lost += 1
            if self._failures >= MOST_FAILURES:
                raise
        finally:
            with self._wake:
                self._num_taken += 1
                self._busy = False
                self._wake.notify_all()
        return not self._given_up

    def _has_ended(self, tracker: Tracker) -> bool:
        return self._exits and getattr(tracker, "ends_at_exit", False)

    def _lose(self, error: BaseException) -> None:
        with self._wake:
            self.error = self.error or error
            self._give_up()
            self._wake.notify_all()

    def _give_up(self) -> None:
        self._given_up = True
        self.num_lost += len(self._waiting)
        self._waiting.clear()

    def _end_quietly(self) -> None:
        with self._wake:
            self._waiting.clear()
            self._closed = True
            self._given_up = True
