"""Fetch what a command reads from the URL of a place, and show how far that is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.record.places.place_url import PlaceUrl, place_of

_AGAIN_S = 10.0

Fetch = Callable[[PlaceUrl, Callable[[int, int], None]], Path]


def fetched_run(given: str | Path) -> Path | None:
    """Return the directory with the run of an URL; `None` where none was given."""
    from seismograd.record.places.fetching import fetch_run

    return _fetched(given, fetch_run)


def fetched_runs(given: str | Path) -> Path | None:
    """Return the directory with the runs of a folder at a place, or with its only run; `None`
    where no URL was given.
    """
    from seismograd.record.places.fetching import fetch_runs

    return _fetched(given, fetch_runs)


def keep_fetching(given: str | Path) -> None:
    """Fetch again and again what is new at an URL, beside the command that shows it."""
    from seismograd.record.places.fetching import fetch_runs

    url = place_of(given)
    if url is None:
        return

    def follow() -> None:
        while True:
            time.sleep(_AGAIN_S)
            with suppress(SeismogradError):  # the place may be there again the next time
                fetch_runs(url)

    threading.Thread(target=follow, name="seismograd-fetch", daemon=True).start()


def _fetched(given: str | Path, fetch: Fetch) -> Path | None:
    from seismograd.cli.terminal.byte_progress import byte_progress

    url = place_of(given)
    if url is None:
        return None
    with byte_progress() as told:
        return fetch(url, told)
