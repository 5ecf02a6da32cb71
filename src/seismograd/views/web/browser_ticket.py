"""What the browser that `seismograd view` starts shows in place of the token: all users of a
machine see the command line that starts it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

Address = tuple[str, int]

_VALID_S = 60.0
_SOCKETS = ("/proc/net/tcp", "/proc/net/tcp6")


class BrowserTicket:
    """It is worth the token once, for a minute, and where the system tells whose a connection is
    only for the user who runs the server.
    """

    def __init__(self) -> None:
        self.value = secrets.token_urlsafe(24)
        self._ends = time.monotonic() + _VALID_S
        self._is_used = False

    def take(self, given: str, client: Address | None, server: Address | None) -> bool:
        """Return whether this is the ticket; from then on it is worth nothing."""
        if self._is_used or time.monotonic() > self._ends:
            return False
        if not secrets.compare_digest(given.encode(), self.value.encode()):
            return False
        if client is not None and server is not None and _is_another_users(client[1], server[1]):
            return False
        self._is_used = True
        return True


def _is_another_users(from_port: int, to_port: int) -> bool:
    """Return whether a connection on this machine is known to be another user's."""
    users = set(_users(from_port, to_port))
    return bool(users) and os.getuid() not in users


def _users(from_port: int, to_port: int) -> Iterator[int]:
    for name in _SOCKETS:
        try:
            lines = Path(name).read_text("ascii").splitlines()[1:]
        except OSError:  # not Linux
            continue
        for fields in map(str.split, lines):
            ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
            if ports == [from_port, to_port]:
                yield int(fields[7])
