"""Run the server until Ctrl-C."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views.web.app import create_app
from seismograd.views.web.browser_ticket import BrowserTicket
from seismograd.views.web.connection_limit import ConnectionLimit
from seismograd.views.web.run_cache import RunCache

DEFAULT_PORT = 7878
_MOST_CONNECTIONS = 300  # of the owner's browsers and tools, beside those of strangers


def serve(
    path: Path,
    host: str,
    port: int | None,
    names: tuple[str, ...],
    open_browser: bool,
    on_address: Callable[[str], None],
) -> None:
    """Show a run, or the runs in a directory; `on_address` gets its address with the token.

    Raises:
        SeismogradError: the address cannot be bound.
    """
    run_cache = RunCache(path)
    listener = listen(host, port)
    actual = int(listener.getsockname()[1])
    token = secrets.token_urlsafe(24)
    ticket = BrowserTicket()
    app = create_app(run_cache, token, host, names, actual, ticket)
    shown = f"[{host}]" if ":" in host else host
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, shown)
    address = f"http://{reached}:{actual}/?token="
    config = server_config(app, ConnectionLimit())
    config.load()  # import everything before the first request
    threading.Thread(target=run_cache.look_ahead, daemon=True).start()
    on_address(address + token)
    if open_browser and _has_screen():
        threading.Thread(
            target=webbrowser.open, args=(address + ticket.value,), daemon=True
        ).start()
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    uvicorn.Server(config).run(sockets=[listener])


def server_config(app: ASGIApp, limit: ConnectionLimit) -> uvicorn.Config:
    """Return how the server runs: it says nothing of itself, and strangers hold no connection."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http=limit.protocol(),
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )


def listen(host: str, port: int | None) -> socket.socket:
    """Return a listening socket; without a port the usual one, or any when that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for each in (DEFAULT_PORT, 0) if port is None else (port,):
        # named, else asyncio leaves Nagle on: 40 ms an answer
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, each))
        except OSError as error:
            listener.close()
            if port is None and each:
                continue
            raise SeismogradError(
                say(
                    "cannot listen on {host}:{port}: {reason}",
                    host=host,
                    port=each,
                    reason=error.strerror or str(error),
                ),
                say("choose another port with --port N, or another address with --host"),
            ) from error
        listener.listen(128)
        return listener
    raise AssertionError


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether an error is only a page left open: when the server ends, its endless answer is
    cut off.
    """
    return "without completing response" not in record.getMessage()


def _has_screen() -> bool:
    """Return whether a browser would open in a window: elsewhere it might take over the
    terminal.
    """
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
