"""The client on a process other than rank 0: it reports each iteration to rank 0 from a thread of
its own.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress

from seismograd.distributed.rank_report import LAYOUT
from seismograd.distributed.rank_row import RankRow
from seismograd.distributed.report_frames import FrameDecoder, FrameKind, frame
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.world import ServerAddress, World

MAX_BYTES = 32 * 2**20  # of iterations that wait
INTERVAL_S = 0.1


class ReportClient:
    """Queues reports and sends them in order. They are dropped when rank 0 cannot be found, or is
    gone.
    """

    def __init__(self, world: World, limits: RankTimeouts) -> None:
        self._world: World | None = world
        self._rank, self._limits = world.rank, limits
        self._queue: deque[RankRow | str] = deque()
        self._bytes_in = self._bytes_out = 0  # each written by one thread
        self._wake = threading.Event()
        self._closing_s: float | None = None
        self._lost = world.store is None
        self._socket: socket.socket | None = None
        self._frames = FrameDecoder()
        self._leave = (0, -1, frozenset[int]())  # its number, the version it is of, the columns
        self._version = -1
        self._thread = threading.Thread(target=self._run, name="seismograd-rank", daemon=True)
        self._thread.start()

    def put(self, rank_row: RankRow) -> None:
        """Queue an iteration, unless too many wait already."""
        if not self._lost and self._bytes_in - self._bytes_out < MAX_BYTES:
            self._bytes_in += rank_row.num_bytes()
            self._queue.append(rank_row)

    def note(self, text: str) -> None:
        """Queue the note of a failure here."""
        if not self._lost and len(self._queue) < 4096:
            self._queue.append(text)

    def begin_close(self) -> None:
        """Send what waits, then end. Does not wait for it."""
        self._closing_s = time.monotonic()
        self._wake.set()

    def close(self) -> None:
        """Send what waits, up to the limit."""
        self.begin_close()
        self._thread.join(self._limits.exit_s)

    def abandon(self) -> None:
        """Leave the connection to the parent: this is a forked child."""
        self._lost = True
        self._queue.clear()
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        try:
            if not self._lost and self._connect():
                self._serve()
        except (OSError, ValueError, RuntimeError):  # rank 0 is gone; RuntimeError: the store is
            pass
        finally:
            self._lost = True
            self._queue.clear()
            self._world = None
            if self._socket is not None:
                self._socket.close()

    def _connect(self) -> bool:
        """Look for rank 0 until the limit; it publishes its address soon after it has joined."""
        assert self._world is not None
        deadline_s = time.monotonic() + self._limits.late_s
        pause_s = 0.02
        while (address := self._world.look_up()) is None:
            end_s = (
                deadline_s
                if self._closing_s is None
                else min(deadline_s, self._closing_s + self._limits.exit_s)
            )
            if time.monotonic() > end_s:
                return False
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 0.5)
        self._world = None  # and with it the store
        return self._call(address)

    def _call(self, address: ServerAddress) -> bool:
        for host in address.hosts:
            with suppress(OSError):
                self._socket = socket.create_connection(
                    (host, address.port), timeout=self._limits.exit_s
                )
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                hello = {"token": address.token, "rank": self._rank, "layout": LAYOUT}
                self._send(frame(FrameKind.HELLO, json.dumps(hello).encode()))
                if self._answered():
                    return True
        return False

    def _answered(self) -> bool:
        """Return whether it is rank 0 that answers: any other program at that port does not."""
        assert self._socket is not None
        return self._socket.recv(1) == b"!"

    def _serve(self) -> None:
        while True:
            closing = self._closing_s is not None  # first: what was put before it is sent
            while self._queue:
                self._listen()
                self._report(self._queue.popleft())
            if closing:
                self._send(frame(FrameKind.END))
                return
            self._wake.wait(INTERVAL_S)

    def _report(self, rank_row: RankRow | str) -> None:
        if isinstance(rank_row, str):
            self._send(frame(FrameKind.NOTE, rank_row.encode()))
            return
        columns = rank_row.columns
        if columns.version != self._version:
            self._send(frame(FrameKind.COLUMNS, columns.to_json()))
            self._version = columns.version
        number, version, left_out = self._leave
        if version != columns.version:
            number, left_out = 0, frozenset[int]()
        self._send(
            frame(FrameKind.REPORT, rank_row.report(columns.sent(left_out), number).to_bytes())
        )
        self._bytes_out += rank_row.num_bytes()

    def _listen(self) -> None:
        """Handle the messages from rank 0."""
        assert self._socket is not None
        while select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            for kind, payload in self._frames.feed(data):
                if kind is FrameKind.LEAVE:
                    request = json.loads(payload)
                    self._leave = (
                        int(request["number"]),
                        int(request["version"]),
                        frozenset(request["columns"]),
                    )

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.settimeout(None if self._closing_s is None else self._limits.exit_s)
        self._socket.sendall(data)
