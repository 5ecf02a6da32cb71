"""Guard requests: only GET, only under a name of this machine, only with the token. It stands
before every route.

A page of another site can make a browser send requests here, and after a DNS rebinding even read
the answers; it cannot make it send a `Host` of ours, nor the cookie.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seismograd.views.web.browser_ticket import BrowserTicket

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]/\s]+)(?::\d{1,5})?")
_LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})
_WIDE = frozenset({"0.0.0.0", "::"})
TOKEN = "token"
TRUST = "seismograd.trust"
"""The entry of a request's state that is called once the token was shown, where there is one."""


class RequestGuard:
    """Middleware: lets through what may pass, with `headers` on every answer.

    Args:
        app: the application behind it.
        token: what a request has to present: `?token=` once, then the cookie that this sets.
        host: the address that the server is bound to; `names` are further names that it may be
            called by.
        cookie: the name of the cookie; those of two servers on one machine differ.
        headers: set on every answer, its own refusals too.
        ticket: what the browser that was started presents in place of the token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        host: str,
        names: Sequence[str],
        cookie: str,
        headers: Mapping[str, str],
        ticket: BrowserTicket | None = None,
    ) -> None:
        self._app = app
        self._token, self._ticket = token, ticket
        self._names = (
            _LOCAL | {host.lower(), f"[{host.lower()}]"} | {name.lower() for name in names}
        )
        self._any_address = host in _WIDE
        self._cookie = cookie
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # a websocket that nobody accepts is refused; there is no lifespan

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = {name for name, _ in self._headers}
                message["headers"] = [
                    pair for pair in message["headers"] if pair[0] not in ours
                ] + self._headers
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET\n", 405, {"Allow": "GET, HEAD"})
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1 or not self._knows(given[0]):
            return PlainTextResponse("this server is not called that\n", 421)
        is_welcome = scope["path"] == "/" and self._has_token(scope)
        if not is_welcome and not self._has_cookie(scope):
            return PlainTextResponse(
                "open the address that `seismograd view` printed: it has the token\n", 403
            )
        trust = scope.get("state", {}).get(TRUST)
        if trust is not None:
            trust()
        return self._welcome(scope) if is_welcome else None

    def _knows(self, host: str) -> bool:
        """Return whether a Host header names this machine. The port is not compared: `ssh -L`
        changes it.
        """
        matched = _HOST.fullmatch(host.strip().lower())
        if matched is None:
            return False
        name = matched["name"].rstrip(".")
        return name in self._names or (self._any_address and _is_address(name))

    def _has_token(self, scope: Scope) -> bool:
        given = [
            value
            for name, value in parse_qsl(scope["query_string"].decode("latin-1"))
            if name == TOKEN
        ]
        if len(given) != 1:
            return False
        if self._is_token(given[0]):
            return True
        addresses = scope.get("client"), scope.get("server")
        return self._ticket is not None and self._ticket.take(given[0], *addresses)

    def _has_cookie(self, scope: Scope) -> bool:
        given = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        # Each by itself: another server on this machine can set a second one of this name, which
        # must not lock the owner out.
        pairs = [each.strip().partition("=") for each in given.decode("latin-1").split(";")]
        return any(name == self._cookie and self._is_token(value) for name, _, value in pairs)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _welcome(self, scope: Scope) -> Response:
        """Exchange the token in the address for the cookie, so that it is in no history and no
        bookmark.
        """
        rest = urlencode(
            [
                pair
                for pair in parse_qsl(scope["query_string"].decode("latin-1"))
                if pair[0] != TOKEN
            ]
        )
        answer = RedirectResponse(f"/?{rest}" if rest else "/", 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
