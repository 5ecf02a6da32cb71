"""What rank 0 knows of one other process, from its connection."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field

from seismograd.listen.ranks.report import Columns, Frame, Frames, Report, frame, report_head

MAX_BACKLOG_BYTES = 64 * 2**20


@dataclass(slots=True)
class Peer:
    """Another process.

    `ended` when it has said so, `gone` when its connection broke, `late` when it was waited for in vain, `refused` when it cannot be heard.
    """

    rank: int
    connection: socket.socket | None = None
    frames: Frames = field(default_factory=Frames)
    ended: bool = False
    gone: bool = False
    late: bool = False
    refused: bool = False
    backlog_bytes: int = 0
    num_left: int = 0
    _reports: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _columns: dict[int, Columns] = field(default_factory=dict[int, Columns])
    _left: dict[int, frozenset[int]] = field(default_factory=lambda: {0: frozenset[int]()})
    _asked: int = -1  # the version of columns for which a LEAVE was sent

    def take(self, kind: Frame, payload: bytes, next_index: int) -> str | None:
        """Take in a message; returns the text of a note. `next_index` is the iteration that is put together next."""
        if kind is Frame.COLUMNS:
            columns = Columns.from_json(payload)
            self._columns[columns.version] = columns
        elif kind is Frame.REPORT:
            index = report_head(payload)[0]
            if index >= next_index:
                self.late = False
                self._reports[index] = payload
                self.backlog_bytes += len(payload)
        elif kind is Frame.END:
            self.ended = True
        elif kind is Frame.NOTE:
            return payload.decode(errors="replace")
        return None

    def awaited(self, index: int) -> bool:
        """Whether an iteration should wait for what this process has to say of it."""
        return index not in self._reports and not (self.ended or self.gone or self.late or self.refused)

    def report(self, index: int) -> tuple[Columns, frozenset[int], Report] | None:
        """What it has said of an iteration, with its columns and those that it has left out; and forget all before."""
        payload = self._reports.pop(index, None)
        for past in [i for i in self._reports if i < index]:
            self.backlog_bytes -= len(self._reports.pop(past))
        if payload is None:
            return None
        self.backlog_bytes -= len(payload)
        _, version, leave = report_head(payload)
        columns, left_out = self._columns[version], self._left[leave]
        return columns, left_out, Report.from_bytes(payload, columns, columns.sent(left_out))

    def leave_out(self, own: Columns) -> bytes | None:
        """What to tell it, once for its columns: not to send what rank 0, which has `own`, holds whole itself."""
        version = max(self._columns, default=-1)
        if version == self._asked:
            return None
        self._asked = version
        mine = {p.name for p, piece in zip(own.parameters, own.pieces, strict=True) if piece is not None and piece.kind == "plain"}
        theirs = self._columns[version]
        left_out = [
            c
            for c, (p, piece) in enumerate(zip(theirs.parameters, theirs.pieces, strict=True))
            if piece is not None and piece.kind == "plain" and p.name in mine
        ]
        if not left_out:
            return None
        self.num_left += 1
        self._left[self.num_left] = frozenset(left_out)
        return frame(Frame.LEAVE, json.dumps({"number": self.num_left, "version": version, "columns": left_out}).encode())
