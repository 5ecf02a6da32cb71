"""Keep reports in files where a process cannot send them to rank 0, to be brought together later.

They are the messages that it would have sent. Rank 0 keeps its own as well then, and those of the
processes that reach it: with all of them its rows can be made as if all had reported.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.ownership import RankView
from seismograd.distributed.rank_report import LAYOUT, RankColumns, RankReport
from seismograd.distributed.report_frames import FrameKind
from seismograd.distributed.world import World

GIVE_UP_S = 120.0  # a process that has joined, and of which nothing is heard, is not watched


class MessageFile(Protocol):
    """A file that messages are appended to."""

    def write(self, kind: int, payload: bytes) -> None:
        """Append one; raises `OSError` where that fails."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...

    def remove(self) -> None:
        """Remove the file."""
        ...


class ReportKeeper(Protocol):
    """Where files of messages are."""

    def beside(self, rank: int) -> MessageFile | None:
        """Return the file of a process in the record of this one, which is rank 0."""
        ...

    def apart(self, rank: int, size: int) -> MessageFile | None:
        """Return the file of this process in a record of its own."""
        ...


class ReportLog:
    """The messages of one process of a world, in a file.

    Args:
        file: where they go.
        training: names the world, the same for all of its processes.
        rank: whose messages they are.
        size: how many processes there are.
    """

    def __init__(self, file: MessageFile, training: str, rank: int, size: int) -> None:
        self._file = file
        self._version, self._left, self._exchange = -1, 0, Exchange.NOTHING
        hello = {"training": training, "rank": rank, "size": size, "layout": LAYOUT}
        file.write(FrameKind.HELLO, json.dumps(hello).encode())

    def report(self, columns: RankColumns, left_out: frozenset[int], report: RankReport) -> None:
        """Keep a report, behind what it refers to."""
        if columns.version != self._version:
            self._file.write(FrameKind.COLUMNS, columns.to_json())
            self._version = columns.version
        if report.leave != self._left:
            left = {"number": report.leave, "columns": sorted(left_out)}
            self._file.write(FrameKind.LEAVE, json.dumps(left).encode())
            self._left = report.leave
        self._file.write(FrameKind.REPORT, report.to_bytes())

    def exchange(self, exchange: Exchange) -> None:
        """Keep what the processes have exchanged before the next report."""
        if exchange is not self._exchange:
            self._file.write(FrameKind.EXCHANGE, str(exchange.value).encode())
            self._exchange = exchange

    def note(self, text: str) -> None:
        """Keep the note of a failure."""
        self._file.write(FrameKind.NOTE, text.encode())

    def end(self) -> None:
        """End the messages."""
        self._file.write(FrameKind.END, b"")
        self._file.close()


class AllReports:
    """On rank 0: all reports that there are, while there may be a process that keeps its own.

    Args:
        keeper: where they are kept.
        world: the processes.
        training: the name of this world.
    """

    def __init__(self, keeper: ReportKeeper, world: World, training: str) -> None:
        self._keeper, self._world, self._training = keeper, world, training
        self._began_s = time.monotonic()
        self._logs: dict[int, ReportLog] = {}
        self._files: list[MessageFile] = []
        self._given_up = False
        self._is_needed = False

    def goes_apart(self, rank: int) -> bool:
        """Return whether a process that has not reached this one keeps its reports by itself; asked
        of the store, for some time.
        """
        if time.monotonic() - self._began_s > GIVE_UP_S:
            return False
        with suppress(Exception):  # the store may be gone
            if self._world.is_apart(rank):
                self._is_needed = True
                return True
        return False

    def keep(
        self,
        views: Sequence[RankView],
        left_out: Mapping[int, frozenset[int]],
        exchange: Exchange,
        is_waiting: bool,
    ) -> None:
        """Keep the reports of an iteration; `is_waiting`: of a process nothing has been heard."""
        if self._given_up:
            return
        late = time.monotonic() - self._began_s > GIVE_UP_S
        if not self._is_needed and (late or not is_waiting):
            self._given_up = late
            self._remove()
            return
        try:
            for view in views:
                log = self._log(view.rank)
                if log is not None:
                    if view.rank == 0:
                        log.exchange(exchange)
                    log.report(view.columns, left_out.get(view.rank, frozenset()), view.report)
        except OSError:  # the disk is full: what was kept stays
            self._given_up = True
            self.close()

    def close(self) -> None:
        """Close the files."""
        with suppress(OSError):
            for log in self._logs.values():
                log.end()
        self._logs.clear()

    def _log(self, rank: int) -> ReportLog | None:
        if rank not in self._logs:
            file = self._keeper.beside(rank)
            if file is None:
                return None
            self._files.append(file)
            self._logs[rank] = ReportLog(file, self._training, rank, self._world.size)
        return self._logs[rank]

    def _remove(self) -> None:
        for file in self._files:
            file.remove()
        self._files.clear()
        self._logs.clear()
