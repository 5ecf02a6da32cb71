"""Write snapshots on a thread of their own, and bound how many there are."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from seismograd.exception_origin import raised_by_user
from seismograd.schema.snapshots import FOLDER, SnapshotReason
from seismograd.settings.snapshot_plan import SnapshotPlan
from seismograd.tensors.stored_copies import write_tensors

MAX_WAITING = 3  # moments
MAX_OTHERS = 16  # moments beside those of `every=N`
CLOSE_S = 120.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file to write: its name, its tensors, which nobody else has, and its metadata."""

    name: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Moment:
    """The files of one moment."""

    files: tuple[StoredFile, ...]
    num_bytes: int
    is_regular: bool  # of `every=N`


@dataclass(slots=True)
class Written:
    """What is on the disk of one moment."""

    num_bytes: int
    paths: list[Path] = field(default_factory=list[Path])


class SnapshotFiles:
    """Writes moments into the folder of a run. Room is asked for before anything is copied.

    Args:
        plan: how many there may be.
        directory: returns the directory of the run; `None` while, or where, there is none.
        failed: takes an error of the disk, after which nothing more is written.
    """

    def __init__(
        self,
        plan: SnapshotPlan,
        directory: Callable[[], Path | None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._plan, self._directory, self._failed = plan, directory, failed
        self._lock = threading.Lock()
        self._regular: deque[Written] = deque()
        self._num_others = self._num_bytes = self._num_waiting = 0
        self._queue: queue.SimpleQueue[Moment | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.num_left_out = 0

    def has_room(self, reason: str, num_bytes: int) -> bool:
        """Return whether a moment of this size may be kept; counts those that may not."""
        with self._lock:
            regular = reason == SnapshotReason.EVERY
            leaves = (
                self._regular[0].num_bytes
                if regular and len(self._regular) >= self._plan.keep
                else 0
            )
            fits = (
                not self._is_closed
                and self._num_waiting < MAX_WAITING
                and (regular or self._num_others < MAX_OTHERS)
                and self._num_bytes - leaves + num_bytes <= self._plan.max_bytes
            )
            self.num_left_out += not fits
            return fits

    def put(self, moment: Moment) -> None:
        """Queue a moment, for which there is room."""
        with self._lock:
            self._num_waiting += 1
            self._num_bytes += moment.num_bytes
            self._num_others += not moment.is_regular
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="seismograd-snapshots", daemon=True
                )
                self._thread.start()
        self._queue.put(moment)

    def write_now(self, files: tuple[StoredFile, ...]) -> None:
        """Write files on this thread; raises `OSError` when the disk rejects them."""
        folder = self._folder()
        if folder is not None:
            for each in files:
                write_tensors(each.tensors, folder / each.name, each.metadata)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._lock:
            self._is_closed, thread = True, self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(CLOSE_S)

    def abandon(self) -> None:
        """Leave the files to the parent: this is a forked child."""
        self._is_closed, self._thread = True, None
        self._lock = threading.Lock()

    def _run(self) -> None:
        while (moment := self._queue.get()) is not None:
            try:
                self._write(moment)
            except Exception as error:
                if raised_by_user(error):
                    raise
                self._is_closed = True
                self._failed(error)
                return
            finally:
                with self._lock:
                    self._num_waiting -= 1

    def _write(self, moment: Moment) -> None:
        folder = self._folder()
        if folder is None:
            return
        written = Written(moment.num_bytes)
        if moment.is_regular:
            self._make_room()
        for each in moment.files:
            path = folder / each.name
            write_tensors(each.tensors, path, each.metadata)
            written.paths.append(path)
        if moment.is_regular:
            with self._lock:
                self._regular.append(written)

    def _make_room(self) -> None:
        """Remove the oldest of `every=N`, of which the newest stay."""
        while len(self._regular) >= self._plan.keep:
            with self._lock:
                oldest = self._regular.popleft()
                self._num_bytes -= oldest.num_bytes
            for path in oldest.paths:
                path.unlink(missing_ok=True)

    def _folder(self) -> Path | None:
        directory = self._directory()
        if directory is None or not directory.is_dir():
            return None
        folder = directory / FOLDER
        folder.mkdir(exist_ok=True)
        return folder
