"""Rank 0's end of the connections: the processes that have connected, and their messages."""

from __future__ import annotations

import json
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from seismograd.distributed.peer import MAX_BACKLOG_BYTES, PeerRank
from seismograd.distributed.rank_report import LAYOUT
from seismograd.distributed.report_frames import FrameDecoder, FrameKind
from seismograd.distributed.world import ServerAddress, World
from seismograd.i18n import Message, say

HANDSHAKE_S = 10.0
MAX_HELLO_BYTES = 1 << 16
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ReportServer:
    """Listens at a port of its own and receives the messages of the other processes; all but `wake`
    and `abandon` on one thread.

    Args:
        world: the processes.
        report: called with the kind of a note and its message.
    """

    def __init__(self, world: World, report: Callable[[str, Message], None]) -> None:
        self.peers = {rank: PeerRank(rank) for rank in range(1, world.size)}
        self._report = report
        self._token = secrets.token_hex(16)
        self.training = secrets.token_hex(8)
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._server: socket.socket | None = None
        self._strangers: dict[socket.socket, tuple[FrameDecoder, float]] = {}
        try:
            self._open(world)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            report(
                "ranks",
                say(
                    "the other ranks could not be reached, so only what rank 0 holds is measured: "
                    "{error}",
                    error=text,
                ),
            )
            for peer in self.peers.values():
                peer.refused = True
            with suppress(Exception):
                world.publish(ServerAddress((), 0, "", self.training))

    def wake(self) -> None:
        """Make a running `listen` return."""
        with suppress(OSError):
            self._waker.send(b"!")

    def listen(self, seconds: float, next_index: int) -> None:
        """Receive messages for this time; `next_index` is the iteration that is combined next."""
        for key, _ in self._selector.select(seconds):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if connection is self._woken:
                connection.recv(64)
            elif connection is self._server:
                self._accept(connection)
            else:
                self._hear(connection, next_index)
        self._tidy()

    def send(self, peer: PeerRank, message: bytes) -> None:
        """Send a short message to a process."""
        if peer.connection is not None and not peer.gone:
            with suppress(OSError):
                peer.connection.settimeout(HANDSHAKE_S)
                try:
                    peer.connection.sendall(message)
                finally:
                    peer.connection.setblocking(False)

    def close(self) -> None:
        """Close all connections. In a forked child too, where the parent goes on with them."""
        for each in self._open_sockets():
            each.close()
        self._selector.close()

    def _open_sockets(self) -> Iterator[socket.socket]:
        yield from (self._woken, self._waker, *self._strangers)
        yield from (
            each
            for each in (self._server, *(p.connection for p in self.peers.values()))
            if each is not None
        )

    def _open(self, world: World) -> None:
        if world.store is None:
            raise RuntimeError("the process group has no store")
        host = world.host()
        local = host in LOOPBACK  # then nobody else can have found the store
        family = (
            socket.AF_INET6
            if host == "::1" or (not local and socket.has_dualstack_ipv6())
            else socket.AF_INET
        )
        bound = "" if not local else "::1" if host == "::1" else "127.0.0.1"
        dualstack = family == socket.AF_INET6 and not local
        self._server = socket.create_server(
            (bound, 0), family=family, backlog=world.size, dualstack_ipv6=dualstack
        )
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)
        hosts = [bound] if local else [h for h in (host, socket.gethostname(), "127.0.0.1") if h]
        port = self._server.getsockname()[1]
        world.publish(ServerAddress(hosts, port, self._token, self.training))

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            stranger, _ = server.accept()
            stranger.setblocking(False)
            self._strangers[stranger] = (FrameDecoder(), time.monotonic())
            self._selector.register(stranger, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket, next_index: int) -> None:
        try:
            data = connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer = next((p for p in self.peers.values() if p.connection is connection), None)
        try:
            if not data:
                self._forget(connection, peer)
            elif peer is not None:
                self._take(peer, peer.frames.feed(data), next_index)
            else:
                self._greet(connection, data, next_index)
        except Exception:  # not a message of ours, whatever a stranger makes of it
            self._forget(connection, peer)

    def _take(
        self, peer: PeerRank, messages: list[tuple[FrameKind, bytes]], next_index: int
    ) -> None:
        for kind, payload in messages:
            text = peer.take(kind, payload, next_index)
            if text is not None:
                self._report("failure", say("rank {rank}: {text}", rank=peer.rank, text=text))
        if peer.backlog_bytes > MAX_BACKLOG_BYTES and peer.connection is not None:
            self._selector.unregister(peer.connection)  # until some of the backlog was used

    def _greet(self, connection: socket.socket, data: bytes, next_index: int) -> None:
        """Check the first message: it must show that the peer is one of the processes, of the same
        version as this one.
        """
        frames, _ = self._strangers[connection]
        messages = frames.feed(data)
        if not messages:
            if frames.num_bytes > MAX_HELLO_BYTES:
                self._forget(connection, None)
            return
        kind, payload = messages[0]
        hello: dict[str, Any] = json.loads(payload) if kind is FrameKind.HELLO else {}
        peer = self.peers.get(int(hello.get("rank", 0)))
        token = str(hello.get("token", ""))
        if (
            peer is None
            or peer.connection is not None
            or not secrets.compare_digest(token.encode(), self._token.encode())
        ):
            self._forget(connection, None)
        elif hello.get("layout") != LAYOUT:
            self._forget(connection, None)
            self._report(
                "ranks",
                say(
                    "rank {rank} runs another version of seismograd and is not included",
                    rank=peer.rank,
                ),
            )
            peer.refused = True
        else:
            self._strangers.pop(connection)
            connection.send(b"!")
            peer.connection, peer.frames = connection, frames
            self._take(peer, messages[1:], next_index)

    def _forget(self, connection: socket.socket, peer: PeerRank | None) -> None:
        with suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()
        self._strangers.pop(connection, None)
        if peer is not None:
            peer.gone = True

    def _tidy(self) -> None:
        """Resume reading from peers whose backlog has drained; drop connections without a
        handshake.
        """
        for peer in self.peers.values():
            connection = peer.connection
            if connection is None or peer.gone or peer.backlog_bytes > MAX_BACKLOG_BYTES:
                continue
            if connection not in self._selector.get_map():
                self._selector.register(connection, selectors.EVENT_READ)
        for stranger, (_, since_s) in list(self._strangers.items()):
            if time.monotonic() - since_s > HANDSHAKE_S:
                self._forget(stranger, None)
