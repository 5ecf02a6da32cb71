"""Strangers can neither hold the server's connections nor use what other users see of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from seismograd.cli import main
from tests.synthetic import block, write_run

pytest.importorskip("starlette", reason="the extra `view` is not installed")
pytest.importorskip("sse_starlette", reason="the extra `view` is not installed")
uvicorn: Any = pytest.importorskip("uvicorn", reason="the extra `view` is not installed")

from seismograd.views.web import browser_ticket  # noqa: E402
from seismograd.views.web.app import create_app  # noqa: E402
from seismograd.views.web.browser_ticket import BrowserTicket  # noqa: E402
from seismograd.views.web.connection_limit import ConnectionLimit  # noqa: E402
from seismograd.views.web.run_cache import RunCache  # noqa: E402
from seismograd.views.web.server import listen, server_config  # noqa: E402

TOKEN = "a-token"
PATIENCE_S = 0.5


class Server:
    def __init__(self, runs: Path) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.port = int(self.listener.getsockname()[1])
        self.ticket = BrowserTicket()
        app = create_app(RunCache(runs), TOKEN, "127.0.0.1", (), self.port, self.ticket)
        self.server = uvicorn.Server(server_config(app, ConnectionLimit(20, PATIENCE_S)))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, path: str, **headers: str) -> bytes:
        """The head of an answer."""
        with self.connect() as asked:
            asked.sendall(self.request(path, **headers))
            return asked.recv(4096).split(b"\r\n\r\n")[0]

    def request(self, path: str, **headers: str) -> bytes:
        given = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", **headers}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    @property
    def cookie(self) -> str:
        return f"seismograd-{self.port}={TOKEN}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write_run(tmp_path / "run", [block([[1.0, 2.0]] * 5)])
    running = Server(tmp_path)
    yield running
    running.server.should_exit = True
    running.thread.join(10)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_strangers_that_hold_connections_do_not_lock_the_owner_out(server: Server) -> None:
    with ExitStack() as held:
        idle = [held.enter_context(server.connect()) for _ in range(120)]
        for each in idle[::2]:
            each.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert server.ask("/runs", Cookie=server.cookie).startswith(b"HTTP/1.1 200")
        assert server.ask(f"/?token={TOKEN}").startswith(b"HTTP/1.1 303")
        assert server.ask("/runs").startswith(b"HTTP/1.1 403")
        time.sleep(PATIENCE_S)
        assert all(map(is_closed, idle))


def test_who_sends_a_line_now_and_then_is_not_waited_for(server: Server) -> None:
    with server.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(ConnectionError):
            for number in range(100):
                slow.sendall(f"X-{number}: 1\r\n".encode())
                time.sleep(PATIENCE_S / 5)
            pytest.fail("never closed")


def test_the_owners_page_stays_connected(server: Server) -> None:
    with server.connect() as live:
        live.sendall(server.request("/run/0/live", Cookie=server.cookie))
        told = b""
        while b"data:" not in told:
            told += live.recv(4096)
        time.sleep(2 * PATIENCE_S)
        live.settimeout(0.1)
        with suppress(TimeoutError):  # nothing new
            assert live.recv(4096)


def test_another_cookie_of_the_name_does_not_lock_the_owner_out(server: Server) -> None:
    name = server.cookie.partition("=")[0]
    for cookies in (
        f"{server.cookie}; {name}=x",
        f"{name}=x; {server.cookie}",
        f"a; {server.cookie}",
    ):
        assert server.ask("/runs", Cookie=cookies).startswith(b"HTTP/1.1 200")
    assert server.ask("/runs", Cookie=f"{name}=x; {name}=").startswith(b"HTTP/1.1 403")


def test_what_starts_the_browser_is_worth_the_token_once(server: Server) -> None:
    path = f"/?token={server.ticket.value}"
    answer = server.ask(path)
    assert answer.startswith(b"HTTP/1.1 303")
    assert TOKEN.encode() in answer
    assert server.ask(path).startswith(b"HTTP/1.1 403")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="tells whose a connection is")
def test_another_user_of_the_machine_cannot_use_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, own = f"/?token={server.ticket.value}", os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    assert server.ask(path).startswith(b"HTTP/1.1 403")
    monkeypatch.setattr(os, "getuid", lambda: own)
    assert server.ask(path).startswith(b"HTTP/1.1 303")


def test_it_is_worth_nothing_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, late = BrowserTicket(), time.monotonic() + 61
    monkeypatch.setattr(browser_ticket.time, "monotonic", lambda: late)
    assert not ticket.take(ticket.value, None, None)


def test_an_address_that_is_empty_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(tmp_path), "--host", "", "--lang", "en"]) == 2
    assert "--host needs an address" in capsys.readouterr().err
