"""Show how far a measurement is, without a word of what came out of it."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """Counts what is done; every thread may call it."""

    def __init__(self, total: int, what: str):
        self.total = total
        self.what = what
        self._done = 0
        self._start_s = time.monotonic()
        self._lock = threading.Lock()

    def done(self) -> None:
        with self._lock:
            self._done += 1
            spent_s = time.monotonic() - self._start_s
            left_s = spent_s / self._done * (self.total - self._done)
            line = f"[{self._done}/{self.total} {self.what}, {minutes(left_s)} left]"
            print(line, file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
