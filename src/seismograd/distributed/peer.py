"""The state of one other process on rank 0, from its connection."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field

from seismograd.distributed.ownership import Ownership
from seismograd.distributed.rank_report import RankColumns, RankReport, report_head
from seismograd.distributed.report_frames import FrameDecoder, FrameKind, frame

MAX_BACKLOG_BYTES = 64 * 2**20


@dataclass(slots=True)
class PeerRank:
    """Another process.

    `ended` when it has sent its end, `gone` when its connection broke, `late` when waiting for it
    timed out, `refused` when its messages cannot be used, `apart` when it cannot reach this one and
    keeps its reports.
    """

    rank: int
    connection: socket.socket | None = None
    frames: FrameDecoder = field(default_factory=FrameDecoder)
    ended: bool = False
    gone: bool = False
    late: bool = False
    refused: bool = False
    apart: bool = False
    backlog_bytes: int = 0
    num_left: int = 0
    newest: int = -1  # index of its latest report
    _reports: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _columns: dict[int, RankColumns] = field(default_factory=dict[int, RankColumns])
    _left: dict[int, frozenset[int]] = field(default_factory=lambda: {0: frozenset[int]()})
    # the versions of its columns, of rank 0's and of the ownership that were last looked at
    _asked: tuple[int, int, int] = (-1, -1, -1)
    _left_last: frozenset[int] = frozenset()

    def take(self, kind: FrameKind, payload: bytes, next_index: int) -> str | None:
        """Handle a message; return the text of a note. `next_index` is the iteration that is
        combined next.
        """
        if kind is FrameKind.COLUMNS:
            columns = RankColumns.from_json(payload)
            self._columns[columns.version] = columns
        elif kind is FrameKind.REPORT:
            index = self.newest = report_head(payload)[0]
            if index >= next_index:
                self.late = False
                self._reports[index] = payload
                self.backlog_bytes += len(payload)
        elif kind is FrameKind.END:
            self.ended = True
        elif kind is FrameKind.NOTE:
            return payload.decode(errors="replace")
        return None

    def awaited(self, index: int) -> bool:
        """Return whether an iteration should wait for this process's report; reports come in
        order.
        """
        return self.newest < index and not (
            self.ended or self.gone or self.late or self.refused or self.apart
        )

    def report(self, index: int) -> tuple[RankColumns, frozenset[int], RankReport] | None:
        """Return its report of an iteration, with its columns and those that it has left out, and
        forget all earlier ones.
        """
        payload = self._reports.pop(index, None)
        for past in [i for i in self._reports if i < index]:
            self.backlog_bytes -= len(self._reports.pop(past))
        if payload is None:
            return None
        self.backlog_bytes -= len(payload)
        _, version, leave = report_head(payload)
        columns, left_out = self._columns[version], self._left[leave]
        return columns, left_out, RankReport.from_bytes(payload, columns, columns.sent(left_out))

    def leave_out(self, own: RankColumns, ownership: Ownership) -> bytes | None:
        """Return the message, when it is another one than before, on which columns not to send
        because rank 0, which has `own`, holds the same.
        """
        version = max(self._columns, default=-1)
        if version < 0 or self._asked == (version, own.version, ownership.version):
            return None
        self._asked = (version, own.version, ownership.version)
        mine = {
            p.name
            for column, p in enumerate(own.parameters)
            if own.is_plain(column) and ownership.is_same(p.name)
        }
        theirs = self._columns[version]
        left_out = [
            c for c, p in enumerate(theirs.parameters) if theirs.is_plain(c) and p.name in mine
        ]
        if frozenset(left_out) == self._left_last:
            return None
        self._left_last = frozenset(left_out)
        self.num_left += 1
        self._left[self.num_left] = frozenset(left_out)
        return frame(
            FrameKind.LEAVE,
            json.dumps({"number": self.num_left, "version": version, "columns": left_out}).encode(),
        )
