"""What strangers send to the port of rank 0 closes their own connection and nothing else."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

import pytest

from seismograd.distributed.rank_report import LAYOUT
from seismograd.distributed.report_frames import FrameKind, frame
from seismograd.distributed.report_server import ReportServer
from seismograd.distributed.world import ServerAddress, World
from seismograd.i18n import Message


class Store:
    """A key-value store at this machine."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def set(self, key: str, value: bytes) -> None:
        self.values[key] = value


def hello(**more: object) -> bytes:
    return frame(FrameKind.HELLO, json.dumps(more).encode())


GARBAGE = {
    "a list": frame(FrameKind.HELLO, b"[]"),
    "a string": frame(FrameKind.HELLO, b'"x"'),
    "an infinite rank": frame(FrameKind.HELLO, b'{"rank": Infinity}'),
    "no end of brackets": frame(FrameKind.HELLO, b"[" * 60_000),
    "no JSON": frame(FrameKind.HELLO, b"\xff"),
    "another message first": frame(FrameKind.REPORT, bytes(8)),
    "a wrong token": hello(token="0" * 32, rank=1, layout=LAYOUT),
    "a length beyond all limits": b"\x01" + (2**62).to_bytes(8, "little"),
    "an unknown kind": b"\xee" + bytes(8),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_stranger_is_dropped_and_the_rank_is_heard(sent: bytes) -> None:
    store, told = Store(), list[tuple[str, Message]]()
    world = World(0, 2, store, 1)
    server = ReportServer(world, lambda kind, message: told.append((kind, message)))
    address = ServerAddress.from_json(next(iter(store.values.values())))
    try:
        with socket.create_connection((address.hosts[0], address.port), timeout=5) as stranger:
            stranger.sendall(sent)
            for _ in range(4):
                server.listen(0.05, 0)
            with suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        with socket.create_connection((address.hosts[0], address.port), timeout=5) as rank:
            rank.sendall(hello(token=address.token, rank=1, layout=LAYOUT))
            for _ in range(4):
                server.listen(0.05, 0)
            assert rank.recv(1) == b"!"
        assert server.peers[1].connection is not None
        assert told == []
    finally:
        server.close()
