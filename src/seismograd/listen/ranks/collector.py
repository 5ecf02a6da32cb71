"""Rank 0: hears from the others, and puts each iteration together from what all have said of it, on a thread of its own."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from seismograd.i18n import Message, say
from seismograd.listen.ranks.combine import Plan, combine, make_plan
from seismograd.listen.ranks.item import Item
from seismograd.listen.ranks.limits import Limits
from seismograd.listen.ranks.peer import MAX_BACKLOG_BYTES, Peer
from seismograd.listen.ranks.report import LAYOUT, Columns, Frame, Frames, Report
from seismograd.listen.ranks.world import Address, World
from seismograd.schema import RANK_DTYPE, Note, RankFlag, Row

MAX_BYTES = 32 * 2**20  # of iterations that wait for others
INTERVAL_S = 0.2
HANDSHAKE_S = 10.0
MAX_NOTES = 8
Heard = tuple[Columns, frozenset[int], Report]


class Collector:
    """Takes the iterations of rank 0, waits for the others up to a limit, and delivers them in order.

    Args:
        world: the processes.
        deliver: called with each iteration when it is put together.
        tell: called with what has words.
        limits: how long to wait.
        before: a thread that delivers what comes before all of this, from an earlier world.
    """

    def __init__(
        self,
        world: World,
        deliver: Callable[[Row], None],
        tell: Callable[[Note], None],
        limits: Limits,
        before: Collector | None = None,
    ) -> None:
        self._deliver, self._tell, self._limits, self._before = deliver, tell, limits, before
        self._peers = {rank: Peer(rank) for rank in range(1, world.size)}
        self._queue: deque[Item] = deque()
        self._bytes_in = self._bytes_out = 0  # each written by one thread
        self._next = 0
        self._closing_s: float | None = None
        self._plans: dict[object, Plan] = {}
        self._failed = False
        self._said: set[int] = set()  # ranks of whom it was said that they are missing
        self._token = secrets.token_hex(16)
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._server: socket.socket | None = None
        self._strangers: dict[socket.socket, tuple[Frames, float]] = {}
        try:
            self._listen(world)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self._say("ranks", say("the other ranks could not be heard, so only what rank 0 holds is measured: {error}", error=text))
            for peer in self._peers.values():
                peer.ended = True
        self._thread = threading.Thread(target=self._run, name="seismograd-ranks", daemon=True)
        self._thread.start()

    # What the training thread calls --------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Take an iteration."""
        if self._failed:
            self._deliver(item.without_shards())
            return
        self._bytes_in += item.num_bytes()
        self._queue.append(item)

    def begin_close(self) -> None:
        """Nothing comes any more. Does not wait."""
        self._closing_s = time.monotonic()
        with suppress(OSError):
            os.write(self._wake_in, b"!")

    def close(self) -> None:
        """Deliver what waits, with what the others have said until then or say within the limit."""
        self.begin_close()
        self._thread.join(self._limits.exit_s + 5)

    def join(self) -> None:
        """Wait for the end of a collector that is closing."""
        self._thread.join()

    def abandon(self) -> None:
        """In a forked child: leave the parent's connections to it."""
        self._queue.clear()
        self._selector.close()
        for each in (self._server, *self._strangers, *(p.connection for p in self._peers.values())):
            if each is not None:
                each.close()

    # What its thread does -------------------------------------------------------------------------------------------------

    def _listen(self, world: World) -> None:
        if world.store is None:
            raise RuntimeError("the process group has no store")
        host = world.host()
        local = host in ("localhost", "127.0.0.1", "::1")
        family = socket.AF_INET6 if host == "::1" or (not local and socket.has_dualstack_ipv6()) else socket.AF_INET
        bound = "" if not local else "::1" if host == "::1" else "127.0.0.1"
        dualstack = family == socket.AF_INET6 and not local
        self._server = socket.create_server((bound, 0), family=family, backlog=world.size, dualstack_ipv6=dualstack)
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)
        hosts = [bound] if local else [h for h in (host, socket.gethostname(), "127.0.0.1") if h]
        world.publish(Address(hosts, self._server.getsockname()[1], self._token))

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()
            while self._closing_s is None or self._queue:
                for key, _ in self._selector.select(INTERVAL_S):
                    if isinstance(key.fileobj, socket.socket):
                        self._hear(key.fileobj)
                    else:
                        os.read(self._wake_out, 64)
                self._put_together()
        except Exception as error:
            self._failed = True
            while self._queue:
                self._deliver(self._queue.popleft().without_shards())
            text = f"{type(error).__name__}: {error}"
            self._say("failure", say("a part of seismograd failed and was left out: {part}: {error}", part="ranks", error=text))
        finally:
            self._end()

    def _end(self) -> None:
        for each in (self._server, *self._strangers, *(p.connection for p in self._peers.values())):
            if each is not None:
                each.close()
        self._selector.close()
        os.close(self._wake_out)

    def _hear(self, connection: socket.socket) -> None:
        if connection is self._server:
            with suppress(OSError):
                stranger, _ = connection.accept()
                stranger.setblocking(False)
                self._strangers[stranger] = (Frames(), time.monotonic())
                self._selector.register(stranger, selectors.EVENT_READ)
            return
        try:
            data = connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer = next((p for p in self._peers.values() if p.connection is connection), None)
        try:
            if peer is not None:
                self._hear_peer(peer, data)
            else:
                self._hear_stranger(connection, data)
        except (ValueError, KeyError, TypeError):  # not what one of us says
            self._forget(connection, peer)

    def _hear_peer(self, peer: Peer, data: bytes) -> None:
        assert peer.connection is not None
        if not data:
            self._forget(peer.connection, peer)
            return
        self._take(peer, peer.frames.feed(data))
        if peer.backlog_bytes > MAX_BACKLOG_BYTES:
            self._selector.unregister(peer.connection)  # until some of it was used

    def _take(self, peer: Peer, messages: list[tuple[Frame, bytes]]) -> None:
        for kind, payload in messages:
            text = peer.take(kind, payload, self._next)
            if text is not None:
                self._say("failure", say("rank {rank}: {text}", rank=peer.rank, text=text))

    def _hear_stranger(self, connection: socket.socket, data: bytes) -> None:
        """The first message must show that it is one of the processes, of the same version as this one."""
        frames, _ = self._strangers[connection]
        messages = frames.feed(data)
        if messages:
            kind, payload = messages[0]
            hello: dict[str, Any] = json.loads(payload) if kind is Frame.HELLO else {}
            peer = self._peers.get(int(hello.get("rank", 0)))
            told = str(hello.get("token", ""))
            if peer is None or peer.connection is not None or not secrets.compare_digest(told.encode(), self._token.encode()):
                self._forget(connection, None)
                return
            if hello.get("layout") != LAYOUT:
                self._forget(connection, None)
                self._say("ranks", say("rank {rank} runs another version of seismograd and is not heard", rank=peer.rank))
                peer.ended = True
                return
            self._strangers.pop(connection)
            connection.send(b"!")
            peer.connection, peer.frames = connection, frames
            self._take(peer, messages[1:])
        elif not data:
            self._forget(connection, None)

    def _forget(self, connection: socket.socket, peer: Peer | None) -> None:
        with suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()
        self._strangers.pop(connection, None)
        if peer is not None:
            peer.gone = True

    def _put_together(self) -> None:
        """Deliver the iterations that nobody more has to be waited for."""
        while self._queue:
            item = self._queue[0]
            waiting = [p for p in self._peers.values() if p.awaited(item.index)]
            if waiting and not self._in_vain(item):
                return
            for peer in waiting:
                peer.late = True
            self._queue.popleft()
            self._bytes_out += item.num_bytes()
            self._next = item.index + 1
            heard = {rank: h for rank, peer in self._peers.items() if (h := peer.report(item.index)) is not None}
            self._say_missing(item, heard)
            self._deliver(self._together(item, heard))
            self._after(item)

    def _in_vain(self, item: Item) -> bool:
        now_s = time.monotonic()
        end_s = item.time_s + self._limits.late_s
        if self._closing_s is not None:
            end_s = min(end_s, self._closing_s + self._limits.exit_s)
        return now_s > end_s or self._bytes_in - self._bytes_out > MAX_BYTES

    def _after(self, item: Item) -> None:
        """Tell the others what need not be sent, listen again to those that were ahead, and to nobody who does not say who he is."""
        for peer in self._peers.values():
            if peer.connection is None or peer.gone:
                continue
            message = peer.leave_out(item.columns)
            if message is not None:
                with suppress(OSError):
                    peer.connection.settimeout(HANDSHAKE_S)
                    peer.connection.sendall(message)
                    peer.connection.setblocking(False)
            if peer.backlog_bytes <= MAX_BACKLOG_BYTES and peer.connection not in self._selector.get_map():
                self._selector.register(peer.connection, selectors.EVENT_READ)
        for stranger, (_, since_s) in list(self._strangers.items()):
            if time.monotonic() - since_s > HANDSHAKE_S:
                self._forget(stranger, None)

    def _together(self, item: Item, heard: dict[int, Heard]) -> Row:
        left_out = {rank: left for rank, (_, left, _) in heard.items()}
        columns = (item.columns, *(theirs for theirs, _, _ in heard.values()))
        key = tuple((rank, c.version, left_out.get(rank, frozenset())) for rank, c in zip((0, *heard), columns, strict=True))
        plan = self._plans.get(key)
        if plan is None:
            sent = (columns[0].sent(), *(c.sent(left_out[rank]) for rank, c in zip(heard, columns[1:], strict=True)))
            self._plans = {key: (plan := make_plan((0, *heard), columns, sent))}
        reports = (item.report(item.columns.sent(), 0), *(report for _, _, report in heard.values()))
        return combine(plan, reports, item.row, self._ranks(item, heard, plan, reports))

    def _ranks(
        self, item: Item, heard: dict[int, Heard], plan: Plan, reports: tuple[Report, ...]
    ) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        ranks = np.zeros(1 + len(self._peers), RANK_DTYPE)
        ranks["rank"] = np.arange(len(ranks))
        ranks["replica_of"] = -1
        for name in ("loss", "grad_norm", "local_norm"):
            ranks[name] = np.nan
        for rank, report, replica_of in zip((0, *heard), reports, plan.replica_of, strict=True):
            ranks[rank] = report.rank
            ranks["replica_of"][rank] = replica_of
            ranks["flags"][rank] |= RankFlag.REPORTED
        ranks["rank"] = np.arange(len(ranks))
        ranks["iteration"] = item.row.step["iteration"]
        return ranks

    def _say_missing(self, item: Item, heard: dict[int, Heard]) -> None:
        """Say once of each process that it is missing, and why as far as that is known."""
        missing = [p for rank, p in self._peers.items() if rank not in heard and p.rank not in self._said]
        step = int(item.row.step["iteration"])
        for peer in missing[:MAX_NOTES]:
            self._said.add(peer.rank)
            rank = peer.rank
            if peer.gone:
                message = say(
                    "rank {rank} is gone; from step {step} on it is left out, and what it alone held is not measured", rank=rank, step=step
                )
            elif peer.ended:
                continue
            else:
                message = say(
                    "rank {rank} was late; from step {step} on it is left out while it is, and what it alone held is not measured",
                    rank=rank,
                    step=step,
                )
            self._say("rank", message, step)

    def _say(self, kind: str, message: Message, iteration: int = -1) -> None:
        self._tell(Note(kind, iteration, message))
