"""The system's Chromium, driven by playwright: where one of them is missing, these tests say so
and are left out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.views.page.browsing import Browsing

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "en")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = (
        os.environ.get("SEISMOGRAD_CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any) -> Iterator[Callable[..., Browsing]]:
    """Opens a page; at the end of the test there must have been no error, no violation of the
    policy and no request to elsewhere.
    """
    opened: list[Browsing] = []

    def open_page(
        address: str | Path, *, width: int = 1200, height: int = 900, theme: str = "light"
    ) -> Browsing:
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        browsing = Browsing(chromium, url, width, height, theme)
        opened.append(browsing)
        return browsing

    yield open_page
    for each in opened:
        each.close()
        assert each.problems == []
