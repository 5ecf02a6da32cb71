"""Decide when a record has the size that it may have, and count what is left out from then on."""

from __future__ import annotations

import math
import time
from pathlib import Path

from seismograd.i18n import say
from seismograd.record.disk_use import disk_use
from seismograd.schema import Note

LOOKED_AT_EVERY_S = 1.0


class SizeLimit:
    """The size that a record may have, in bytes; `None`: any. Once it is reached nothing fits any
    more, so that what is there is a whole, shorter run.
    """

    def __init__(self, run: Path, max_bytes: int | None) -> None:
        self._run, self._max_bytes = run, max_bytes
        self._looked_at = -math.inf
        self.num_left_out = 0

    def fits(self, num_rows: int) -> bool:
        """Return whether so many rows may be written, and count them where not; looks at the disk
        once a second.
        """
        if self._is_full():
            self.num_left_out += num_rows
            return False
        return True

    def note(self) -> Note:
        """Return what is to be said of steps that were left out."""
        said = say(
            "steps not recorded because the record had reached --max-size: {count}",
            count=self.num_left_out,
        )
        return Note("thinned", -1, said)

    def _is_full(self) -> bool:
        if self._max_bytes is None or self.num_left_out:
            return self.num_left_out > 0
        if time.monotonic() - self._looked_at < LOOKED_AT_EVERY_S:
            return False
        self._looked_at = time.monotonic()
        return disk_use(self._run) >= self._max_bytes
