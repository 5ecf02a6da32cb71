"""Keep strangers from holding all connections: whoever has not shown the token yet may not stay,
and when there are too many, the one that has waited longest has to go.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from seismograd.views.web.request_guard import TRUST

MAX_STRANGERS = 64
PATIENCE_S = 10.0  # for a whole request with the token; a browser takes milliseconds

_Protocol: Any = AutoHTTPProtocol


class ConnectionLimit:
    """The connections that have not shown the token, the oldest first.

    Args:
        max_strangers: how many there may be.
        patience_s: how long each may stay.
    """

    def __init__(self, max_strangers: int = MAX_STRANGERS, patience_s: float = PATIENCE_S) -> None:
        self._max_strangers, self._patience_s = max_strangers, patience_s
        self._strangers: dict[Any, asyncio.TimerHandle] = {}

    def protocol(self) -> Any:
        """Return the class of uvicorn's connections, with this limit."""
        limit = self

        class LimitedProtocol(_Protocol):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.app_state = {**self.app_state, TRUST: lambda: limit.trust(self)}

            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                limit.came(self, self.loop)

            def connection_lost(self, exc: Exception | None) -> None:
                limit.trust(self)
                super().connection_lost(exc)

        return LimitedProtocol

    def came(self, connection: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Count a new connection, and close the oldest stranger's when there are too many."""
        if len(self._strangers) >= self._max_strangers:
            self._close(next(iter(self._strangers)))
        self._strangers[connection] = loop.call_later(self._patience_s, self._close, connection)

    def trust(self, connection: Any) -> None:
        """Let a connection stay: it has shown the token, or is gone."""
        timer = self._strangers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _close(self, connection: Any) -> None:
        self.trust(connection)
        connection.transport.abort()
