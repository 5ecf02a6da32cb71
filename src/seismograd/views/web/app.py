"""The server's routes: the page, the list of runs, the answers of a run, and its news."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from seismograd.errors import SeismogradError
from seismograd.record import strict_json
from seismograd.views.page.document import content_policy, document
from seismograd.views.web.browser_ticket import BrowserTicket
from seismograd.views.web.request_guard import RequestGuard
from seismograd.views.web.run_cache import RunCache

QUESTIONS = (
    "meta",
    "heat",
    "scalars",
    "line",
    "step",
    "histogram",
    "lanes",
    "signals",
    "picture",
    "seismogram",
    "element",
)
_INTERVAL_S = 1.0


class _IndexConvertor(IntegerConvertor):
    """A run's number. Starlette's own takes any number of digits, which `int` refuses too late."""

    regex = "[0-9]{1,9}"


register_url_convertor("index", _IndexConvertor())


def create_app(
    run_cache: RunCache,
    token: str,
    host: str,
    names: tuple[str, ...] = (),
    port: int = 0,
    ticket: BrowserTicket | None = None,
) -> Starlette:
    """Return the server of a run cache. It holds no state but the cache's, and needs no
    lifespan.
    """
    headers = {
        "Content-Security-Policy": f"{content_policy('view')}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    answers = [
        Route(f"/run/{{index:index}}/{question}", _answering(run_cache, question), methods=["GET"])
        for question in QUESTIONS
    ]
    routes = [
        Route("/", _page(run_cache), methods=["GET"]),
        Route("/runs", _listing(run_cache), methods=["GET"]),
        Route("/run/{index:index}/live", _living(run_cache), methods=["GET"]),
        *answers,
    ]
    guard = Middleware(
        RequestGuard,
        token=token,
        host=host,
        names=names,
        cookie=f"seismograd-{port}",
        headers=headers,
        ticket=ticket,
    )
    app = Starlette(routes=routes, middleware=[guard])
    app.router.redirect_slashes = False  # a route is exactly its path
    return app


def _page(run_cache: RunCache) -> Callable[[Request], Response]:
    def page(_: Request) -> Response:
        return HTMLResponse(document("view", "seismograd", only=0 if run_cache.is_single else None))

    return page


def _listing(run_cache: RunCache) -> Callable[[Request], Response]:
    def runs(_: Request) -> Response:
        listed = run_cache.list()
        return Response(
            strict_json.dumps({"runs": listed, "only": 0 if run_cache.is_single else None}),
            media_type="application/json",
        )

    return runs


def _answering(run_cache: RunCache, question: str) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        begun, used = time.perf_counter(), time.thread_time()
        try:
            data = run_cache.answer(
                request.path_params["index"], question, dict(request.query_params)
            )
        except (LookupError, SeismogradError, FileNotFoundError):  # also one that is being removed
            return PlainTextResponse("no such run\n", 404)
        except ValueError:
            return PlainTextResponse("no such question\n", 400)
        took = (
            f"answer;dur={1e3 * (time.perf_counter() - begun):.1f}, "
            f"processor;dur={1e3 * (time.thread_time() - used):.1f}"
        )
        return Response(
            data, media_type="application/octet-stream", headers={"Server-Timing": took}
        )

    return answer


def _living(run_cache: RunCache) -> Callable[[Request], Any]:
    async def live(request: Request) -> Response:
        index = request.path_params["index"]
        try:
            await run_in_threadpool(run_cache.news, index)
        except (LookupError, SeismogradError):
            return PlainTextResponse("no such run\n", 404)
        return EventSourceResponse(_news(run_cache, index), ping=15)

    return live


async def _news(run_cache: RunCache, index: int) -> AsyncIterator[dict[str, str]]:
    """Yield an event at once, and one whenever there is more of the run."""
    before = None
    while True:
        try:
            news = await run_in_threadpool(run_cache.news, index)
        except (LookupError, SeismogradError):
            return  # it was removed
        if news != before:
            before = news
            yield {"data": json.dumps(asdict(news))}
        await asyncio.sleep(_INTERVAL_S)
