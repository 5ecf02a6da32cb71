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
from seismograd.distributed.report_log import ReportKeeper, ReportLog
from seismograd.distributed.timeouts import RankTimeouts
from seismograd.distributed.world import ServerAddress, World
from seismograd.errors import SeismogradError

MAX_BYTES = 32 * 2**20  # of iterations that wait
INTERVAL_S = 0.1


class ReportClient:
    """Queues reports and sends them in order. They are kept in a file where rank 0 is there but
    cannot be reached, and dropped when it cannot be found, or is gone.
    """

    def __init__(
        self, world: World, limits: RankTimeouts, keeper: ReportKeeper | None = None
    ) -> None:
        self._keeper = keeper
        self._log: ReportLog | None = None
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
        # Rank 0 is gone; RuntimeError: the store is; SeismogradError: no record can be made.
        except (OSError, ValueError, RuntimeError, SeismogradError):
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
        world, self._world = self._world, None  # and with it the store, soon
        return self._call(address) or self._keeps(world, address.training)

    def _keeps(self, world: World, training: str) -> bool:
        """Begin to keep the reports, because nobody answers; return whether that can be."""
        file = None if self._keeper is None else self._keeper.apart(world.rank, world.size)
        if file is None:
            return False
        self._log = ReportLog(file, training, world.rank, world.size)
        world.say_apart()
        return True

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
                if self._log is None:
                    self._send(frame(FrameKind.END))
                    self._let_it_arrive(self._socket)
                else:
                    self._log.end()
                return
            self._wake.wait(INTERVAL_S)

    def _let_it_arrive(self, connection: socket.socket | None) -> None:
        """Wait until rank 0 has read everything and closes the connection: to close it with unread
        messages of rank 0 in it would reset it, and take away what has not been read there.
        """
        assert connection is not None
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(self._limits.exit_s)
        while connection.recv(1 << 16):
            pass

    def _report(self, rank_row: RankRow | str) -> None:
        if self._log is not None:
            self._keep(self._log, rank_row)
            return
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

    def _keep(self, log: ReportLog, rank_row: RankRow | str) -> None:
        if isinstance(rank_row, str):
            log.note(rank_row)
            return
        report = rank_row.report(rank_row.columns.sent(), 0)
        log.report(rank_row.columns, frozenset(), report)
        self._bytes_out += rank_row.num_bytes()

    def _listen(self) -> None:
        """Handle the messages from rank 0."""
        if self._log is not None:
            return
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
